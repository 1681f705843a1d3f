"""Parameters, bodies and checks of requests, for the routes of all services."""

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from litestar import Request
from litestar.params import PathParameter, QueryParameter
from msgspec import Meta

from contracts import ids
from infra.http.problems import Problem, invalid
from infra.http.wording import FORMS, in_words, no_json_in_words

Id = Annotated[str, Meta(pattern=ids.PATTERN, description=f"{ids.MEANING}: a token of a NATS subject.")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Amount = Annotated[int, Meta(ge=1, le=10**12)]
Price = Annotated[int, Meta(ge=1, le=10**9, description="won")]
Time = Annotated[datetime, Meta(tz=True, description="RFC 3339, with an offset.")]

PathId = Annotated[str, PathParameter(pattern=ids.PATTERN)]
QueryId = Annotated[str, QueryParameter(pattern=ids.PATTERN)]
PageSize = Annotated[int, QueryParameter(ge=1, le=200)]
AFTER: Final = rf"^{ids.CHARACTER}{{0,{ids.MAX_LENGTH}}}\Z"
FORMS[AFTER] = "has to be the `next` of a page, or empty for the first page"
After = Annotated[str, QueryParameter(pattern=AFTER, description="`next` of the page before; empty: the first.")]


class HeaderCheck:
    """A `before_request` hook that judges a request by one header, before its route judges parameters and body.

    `check` gets the header's value, or None if the header is missing. It returns to let the request pass, or raises the
    error that the client gets as the answer. `check` needs no Request, because making a Request costs as much as the
    whole fast path. So Litestar and the fast path can call the same function.
    """

    def __init__(self, header: str, check: Callable[[str | None], None]) -> None:
        self.header = header
        self.check = check

    async def __call__(self, request: Request[Any, Any, Any]) -> None:
        self.check(request.headers.get(self.header))


AnyRequest = Request[Any, Any, Any]


class StrictRequest(Request[Any, Any, Any]):
    """A request whose `json()` decodes the body into the type of its handler's `data`, without Litestar's conversion.

    Decoding is strict: a number in quotes is not a number. `json()` raises Problem (400) if the body is not valid,
    RecursionError if it is nested too deeply, RequestEntityTooLarge (413) if it is too large.
    """

    async def json(self) -> Any:
        wanted = self.route_handler.parsed_data_field
        if wanted is None:
            return await super().json()
        try:
            return _decoder(wanted.annotation).decode(await self.body())
        except msgspec.ValidationError as error:
            raise invalid(*_field_and_message(str(error))) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem(400, "malformed-request", no_json_in_words(error)) from None


@lru_cache
def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted)


def _field_and_message(error: str) -> tuple[str, str, str]:
    """Make the arguments of `invalid` from the text of msgspec's ValidationError: field, source, message.

    The field is given with its path, such as `lines[0].quantity`, or as `body` if the text names none. The source is
    always `body`.
    """
    message, _, at = error.partition(" - at `$")
    field = at.removesuffix("`").removeprefix(".")
    if named := re.fullmatch(r"Object (?:contains unknown|missing required) field `(.+)`", message):
        field = f"{field}.{named[1]}" if field else named[1]
    return field or "body", "body", in_words(message)
