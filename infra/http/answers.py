"""Declares the answers of a route, for its documentation: the argument `responses` of Litestar's route decorators."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from litestar.openapi import ResponseSpec
from msgspec import Struct

from infra.http.grammar import MAX_BODY_BYTES, REQUEST_S, long_head, long_line, request_timeout, too_large
from infra.http.problems import Problem, damaged, internal_error, invalid, of_newer_code, store_unavailable

GENERIC: Final = {
    400: invalid("limit", "query", "has to be 1 or more"),
    408: request_timeout(REQUEST_S),
    413: too_large(MAX_BODY_BYTES),
    414: long_line(),
    431: long_head(),
    500: internal_error(),
    503: store_unavailable("database or disk is full"),
}
"""The problems that routes of every service may answer."""

UNREADABLE: Final = (
    of_newer_code(
        "stock-k1: a record cannot be read: stock-k1@2: it is of newer code: its reason 'new' is unknown here"
    ),
    damaged("stock-k1: a record cannot be read: stock-k1@2: Object missing required field `reason`"),
)
"""The other problems that routes which read or change what is recorded answer with 503."""

REQUIRED: Final = "required_headers"
"""The key in a route's `opt` for headers to document as required, because the route itself refuses their absence."""

HEADERS: Final = {
    "Allow": "The methods of this path.",
    "Retry-After": "Seconds after which to repeat the request.",
    "WWW-Authenticate": "How the caller is to be named: a header, or `Bearer` for a token, and its error.",
    "Location": "The path of what was made.",
    "Idempotency-Key": "The request's key; without one in the request, the key that was made for it.",
    "Idempotent-Replayed": "`true` if the key was used before: this is the first answer again. Absent otherwise.",
}
"""The headers of answers, and what each says."""


@dataclass
class DocumentedAnswer(ResponseSpec):
    """A documented answer. `headers`: names of its headers, each a key of HEADERS. `bodies`: example bodies by name."""

    headers: tuple[str, ...] = ()
    bodies: Mapping[str, Struct] = field(default_factory=dict)


def answer(
    status: int, body: type[Struct], description: str, *headers: str, bodies: Mapping[str, Struct] | None = None
) -> dict[int, ResponseSpec]:
    """Return the `responses` entry for an answer besides the usual one.

    `headers`: keys of HEADERS. `bodies`: example bodies by name.
    """
    return {status: DocumentedAnswer(body, False, description, headers=headers, bodies=bodies or {})}


def problems(*ones: int | Problem) -> dict[int, ResponseSpec]:
    """Return the `responses` of a route, by status, for `ones`: the problems that the route may answer.

    Each is a key of GENERIC, or a Problem as the route raises it. The key 503 also adds the problems of UNREADABLE; a
    Problem with status 503 does not. Raises KeyError for a status that GENERIC does not have.
    """
    by_status: dict[int, list[Problem]] = {}
    for one in ones:
        alike = [one] if isinstance(one, Problem) else [GENERIC[one], *(UNREADABLE if one == 503 else ())]
        for problem in alike:
            by_status.setdefault(problem.body.status, []).append(problem)
    return {status: _documented(alike) for status, alike in by_status.items()}


def _documented(alike: list[Problem]) -> DocumentedAnswer:
    names = [problem.body.type.rpartition("/")[2] for problem in alike]
    return DocumentedAnswer(
        type(alike[0].body),
        False,
        ", ".join(f"`{name}`" for name in names),
        "application/problem+json",
        headers=tuple(dict.fromkeys(name for problem in alike for name in problem.headers)),
        bodies={name: problem.body for name, problem in zip(names, alike, strict=True)},
    )
