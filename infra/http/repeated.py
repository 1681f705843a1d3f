"""Refuses a request that says twice what decides, or in another spelling: what counts would depend on who reads it.

A proxy that sets a header, and a client that sent the same header before, are two voices. Whichever of the two a
reader takes, another one takes the other.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl

from litestar import Litestar
from litestar.params import HeaderParameter
from litestar.routes import HTTPRoute

from infra.http.problems import Problem, invalid

SINGLE_FOR_EVERYBODY: Final = ("Host", "Content-Type", "Content-Length", "Authorization", "Origin", "Expect")


_OTHER_SPELLING: Final = re.compile(rb"//|%(?:2[DEFdef]|3\d|4[1-9A-Fa-f]|5[\dACFacf]|6[1-9A-Fa-f]|7[\dAEae])")
"""An empty segment; a slash, a backslash, or a character that needs no encoding, in percent encoding."""


class RepeatedParameters:
    """Finds what a request says twice: a query parameter, or a header that any route of `app` takes as a parameter.

    The headers of SINGLE_FOR_EVERYBODY are covered, too. Routes have no lists among their parameters. So a new
    parameter is covered without being named here. A path in another spelling (`//ops/views`, `/%6fps/views`) is one
    that a proxy may have taken for another path.
    """

    def __init__(self, app: Litestar) -> None:
        self._headers = {name.lower().encode(): name for name in (*SINGLE_FOR_EVERYBODY, *_header_parameters(app))}

    def problem(self, scope: Any) -> Problem | None:
        """Return the answer (400) to the request of this ASGI scope, None if it says nothing twice.

        A path in another spelling is 404.
        """
        if _OTHER_SPELLING.search(scope.get("raw_path") or scope["path"].encode()):
            return Problem(
                404, "not-found", "a path has no empty segment, no encoded slash, and encodes no plain character"
            )
        names = [name for name, _ in scope["headers"]]
        if len(set(names)) < len(names):
            counts = Counter(names)
            for name, shown in self._headers.items():
                if counts[name] > 1:
                    return invalid(shown, "header", f"given {counts[name]} times; it must be given once")
        query: bytes = scope["query_string"]
        if b"&" in query:
            given = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
            for parameter, count in given.items():
                if count > 1:
                    return invalid(parameter, "query", f"given {count} times; it must be given once")
        return None


def _header_parameters(app: Litestar) -> Iterator[str]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for name, field in handler.parsed_fn_signature.parameters.items():
                    if isinstance(field.kwarg_definition, HeaderParameter):
                        yield field.kwarg_definition.name or name
