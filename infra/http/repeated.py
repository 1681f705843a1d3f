"""Refuses a request that repeats a query parameter or certain headers, or spells its path or a number in another way.

What counts in such a request would depend on who reads it. If a proxy sets a header that the client sent, too, one
reader may take the proxy's value and another reader the client's.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl

from litestar import Litestar
from litestar.params import HeaderParameter, QueryParameter
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from infra.http.problems import Problem, invalid

SINGLE_FOR_EVERYBODY: Final = ("Host", "Content-Type", "Content-Length", "Authorization", "Origin", "Expect")


_OTHER_SPELLING: Final = re.compile(rb"//|%(?:2[DEFdef]|3\d|4[1-9A-Fa-f]|5[\dACFacf]|6[1-9A-Fa-f]|7[\dAEae])")
"""An empty segment; a slash, a backslash, or a character that needs no encoding, in percent encoding."""
_WHOLE_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]*")


class RepeatedParameters:
    """Refuses a request that repeats a query parameter, or a header that any route of `app` takes as a parameter.

    The headers of SINGLE_FOR_EVERYBODY are covered, too. Routes have no lists among their parameters. So a new
    parameter is covered without being named here.

    Also refuses a path in another spelling (`//ops/views`, `/%6fps/views`, `/ops/views/`), which a proxy may have taken
    for another path. Also refuses a whole number of the query in another spelling (`2e1` for 20).
    """

    def __init__(self, app: Litestar) -> None:
        self._headers = {name.lower().encode(): name for name in (*SINGLE_FOR_EVERYBODY, *_header_parameters(app))}
        self._numbers = _whole_numbers(app)

    def problem(self, scope: Any) -> Problem | None:
        """Return the problem to answer the request of this ASGI scope with; None if it may pass.

        404 for a path in another spelling; 400 for a repeated header or parameter, or a number in another spelling.
        """
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        if _OTHER_SPELLING.search(path) or (path.endswith(b"/") and path != b"/"):
            return Problem(
                404,
                "not-found",
                "a path has no empty segment, no slash at its end, no encoded slash, and encodes no plain character",
            )
        names = [name for name, _ in scope["headers"]]
        if len(set(names)) < len(names):
            counts = Counter(names)
            for name, shown in self._headers.items():
                if counts[name] > 1:
                    return invalid(shown, "header", f"given {counts[name]} times; it must be given once")
        query: bytes = scope["query_string"]
        return self._problem_of_query(query.decode("latin-1")) if query else None

    def _problem_of_query(self, query: str) -> Problem | None:
        given = parse_qsl(query, keep_blank_values=True)
        for parameter, count in Counter(name for name, _ in given).items():
            if count > 1:
                return invalid(parameter, "query", f"given {count} times; it must be given once")
        for parameter, value in given:
            if parameter in self._numbers and not _WHOLE_NUMBER.fullmatch(value) and _is_number(value):
                return invalid(parameter, "query", "has to be a whole number in plain digits, such as 20")
        return None


def _is_number(text: str) -> bool:
    """Whether a reader may take the text for a number; of any other text the route says what is wrong with it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parameters(app: Litestar) -> Iterator[tuple[str, FieldDefinition]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                yield from handler.parsed_fn_signature.parameters.items()


def _header_parameters(app: Litestar) -> Iterator[str]:
    for name, field in _parameters(app):
        if isinstance(field.kwarg_definition, HeaderParameter):
            yield field.kwarg_definition.name or name


def _whole_numbers(app: Litestar) -> frozenset[str]:
    """Return the names of the query parameters that are whole numbers in each route that takes them."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for name, field in _parameters(app):
        if isinstance(field.kwarg_definition, QueryParameter):
            types = (field.annotation, *(inner.annotation for inner in field.inner_types))
            found[int in types].add(field.kwarg_definition.name or name)
    return frozenset(found[True] - found[False])
