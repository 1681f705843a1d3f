"""Who may use a route. Each route declares it, and one function asks it on all ways to a route, the fast one included.

With a verifier of tokens (`AUTH_KEYS`), every route but the public ones needs a valid token. The token's subject then
replaces what the request says in the header by which a service knows its caller else, so its routes need nothing more.
"""

import re
from collections.abc import Iterator
from math import ceil
from typing import Any, Final

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute

from infra.auth.principal import OPS_READ, KeysUnavailable, Principal, TokenRefused, Verifier
from infra.auth.rate_limit import RateLimit
from infra.http.problems import Problem, unavailable

ACCESS: Final = "access"
"""The key in a route's `opt` for who may use it: PUBLIC, ANY_CALLER, or the scope that its caller's token must have."""
PUBLIC: Final = "public"
ANY_CALLER: Final = "any caller"
"""Every caller with a valid token; what is somebody else's, the route itself does not show (`may_see`)."""
SCHEMA: Final = "/schema"
"""The API's document and page, which are public; their routes are the framework's."""

AUTHENTICATED: Final = "authenticated"
"""The key in an app's `state` for its Authentication; None: its callers need no tokens."""
CALLER: Final = "caller"
"""The key in a scope's `state` for the Principal of the request."""

_bearer: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)").fullmatch


AnyConnection = ASGIConnection[Any, Any, Any, Any]


class AccessMissing(Exception):
    """A route does not declare who may use it; the message names the route."""


def unauthorized(why: str = "", description: str = "send a token: `Authorization: Bearer ...`") -> Problem:
    """Return a problem to raise: 401 (RFC 6750). `why`: the error's name there; empty: the request had no token."""
    told = f', error="{why}", error_description="{description}"' if why else ""
    return Problem(401, "unauthorized", description, {"WWW-Authenticate": f'Bearer realm="api"{told}'})


def forbidden(scope: str) -> Problem:
    """Return a problem to raise: 403, because the caller's token lacks this scope."""
    told = f'Bearer realm="api", error="insufficient_scope", scope="{scope}"'
    return Problem(403, "insufficient-scope", f"the token lacks the scope {scope}", {"WWW-Authenticate": told})


def bearer_token(header: str) -> str | None:
    """Return the token in a value of the header Authorization; None: it has none, or anything else."""
    told = _bearer(header.strip(" \t"))
    return None if told is None else told[1]


def too_many(wait_s: float) -> Problem:
    """Return a problem to raise: 429, because the caller has sent too many requests; one may come after `wait_s`."""
    detail = "you have sent too many requests; retry after the given delay"
    return Problem(429, "too-many-requests", detail, {"Retry-After": str(max(1, ceil(wait_s)))})


class Authentication:
    """Decides who has sent a request, before any route sees it."""

    def __init__(self, verifier: Verifier, caller_header: str = "", limit: RateLimit | None = None) -> None:
        """`caller_header`: the header that names the caller where nobody needs a token; empty: there is none.

        `limit` None: a caller may send any number of requests.
        """
        self._verifier = verifier
        self._limit = limit
        self.caller_header: Final = caller_header.lower()
        self._header = self.caller_header.encode()
        self._public: frozenset[str] = frozenset()

    def learn_routes(self, app: Litestar) -> None:
        """Take from the app's routes which paths are public; called once, before the first request."""
        paths: dict[str, set[object]] = {}
        for route, handler in routes_of(app):
            paths.setdefault(route.path, set()).add(handler.opt.get(ACCESS))
        self._public = frozenset(path for path, access in paths.items() if access == {PUBLIC})

    async def admit(self, scope: Any) -> Problem | None:
        """Put the Principal into the scope's state, and the subject into its header; return the problem to answer with.

        None: the request may go on. To a public route it may without a token, and with one that is refused.
        """
        headers = [(name, value) for name, value in scope["headers"] if name != self._header]
        scope["headers"] = headers
        found = await self._caller(headers)
        if isinstance(found, Principal):
            scope.setdefault("state", {})[CALLER] = found
            if self._header:
                headers.append((self._header, found.subject.encode()))
            wait_s = 0.0 if self._limit is None else self._limit.take(found.subject)
            return too_many(wait_s) if wait_s else None
        path: str = scope["path"]
        return None if path in self._public or path == SCHEMA or path.startswith(f"{SCHEMA}/") else found

    async def _caller(self, headers: list[tuple[bytes, bytes]]) -> Principal | Problem:
        sent = next((value for name, value in headers if name == b"authorization"), None)
        if sent is None:
            return unauthorized()
        token = bearer_token(sent.decode("latin-1"))
        if token is None:
            return unauthorized("invalid_request", "the header Authorization has to be `Bearer` and a token")
        try:
            return self._verifier.known(token) or await self._verifier.verify(token)
        except TokenRefused as refused:
            return unauthorized("invalid_token", str(refused))
        except KeysUnavailable:
            return unavailable("tokens cannot be verified now; /readyz tells operators why")


def check_scope(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """Raise a Problem, 403, if the route needs a scope that the caller's token lacks. A guard of the whole app."""
    needed = handler.opt.get(ACCESS, "" if connection.scope["path"].startswith(SCHEMA) else "an undeclared scope")
    caller: Principal | None = connection.scope["state"].get(CALLER)
    if needed not in ("", PUBLIC, ANY_CALLER) and (caller is None or needed not in caller.scopes):
        raise forbidden(needed)


def may_read(connection: AnyConnection, scope: str) -> bool:
    """Return whether the caller's token has this scope. Without a verifier of tokens everybody may read."""
    caller: Principal | None = connection.scope["state"].get(CALLER)
    return not connection.app.state.get(AUTHENTICATED) or (caller is not None and scope in caller.scopes)


def reads_all(connection: AnyConnection) -> bool:
    """Return whether the caller has a token with which operators read what is anybody's."""
    caller: Principal | None = connection.scope["state"].get(CALLER)
    return caller is not None and OPS_READ in caller.scopes


def may_see(connection: AnyConnection, owner: str) -> bool:
    """Return whether the caller may see what is this customer's: it is the caller's, or the caller may read all.

    Without a verifier of tokens everybody may.
    """
    caller: Principal | None = connection.scope["state"].get(CALLER)
    return may_read(connection, OPS_READ) or (caller is not None and caller.subject == owner)


def check_declared(app: Litestar) -> None:
    """Raise AccessMissing if a route of the app, besides those of SCHEMA, does not declare who may use it."""
    for route, handler in routes_of(app):
        if not isinstance(handler.opt.get(ACCESS), str) and not route.path.startswith(SCHEMA):
            methods = "/".join(sorted(handler.http_methods))
            raise AccessMissing(f"{methods} {route.path} does not declare who may use it: {ACCESS!r} in its opt")


def routes_of(app: Litestar) -> Iterator[tuple[HTTPRoute, HTTPRouteHandler]]:
    """Yield each handler with its route, without those of OPTIONS, which are the framework's."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.http_methods != {"OPTIONS"}:
                    yield route, handler
