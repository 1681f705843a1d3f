"""Signing in and out, and the guard of all other pages; only where services ask for tokens."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from http.cookies import CookieError, SimpleCookie
from time import time
from typing import Any, Final
from urllib.parse import quote, urlsplit

from litestar import Response, get, post
from litestar.datastructures import Cookie
from litestar.handlers import BaseRouteHandler
from litestar.response import Redirect
from litestar.types import ControllerRouterHandler

from infra.auth.principal import OPS_READ, KeysUnavailable, TokenRefused
from infra.http.access import ACCESS, PUBLIC, AnyConnection, bearer_token
from infra.http.parameters import AnyRequest
from infra.http.problems import Problem
from ops.dashboard import live
from ops.dashboard.forms import Form
from ops.dashboard.pages import page
from ops.dashboard.sessions import OPERATOR, Operator, Sessions

PATH: Final = "/sign-in"
LONGEST_PATH: Final = 2_000  # characters of where to go after signing in
_OWN_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x7e]*")


class SignInNeeded(Exception):
    """Nobody is signed in. `path`: where the operator wanted to go."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class SignIn:
    """Lets operators in. `port` is in the cookie's name, as cookies are of a host, whatever the port is."""

    def __init__(self, sessions: Sessions, form: Form, port: int, *, over_tls: bool) -> None:
        """`over_tls`: browsers reach the dashboard by TLS alone, so its cookie is sent over TLS alone."""
        self._sessions = sessions
        self._form = form
        self._over_tls = over_tls
        self._cookie = f"__Host-session-{port}" if over_tls else f"session-{port}"

    async def guard(self, connection: AnyConnection, handler: BaseRouteHandler) -> None:
        """Raise SignInNeeded unless an operator who may read has sent the request, or the page is for all.

        Raises Problem: 401 for a token that is refused, 403 for one without the scope, 503 if none can be verified.
        """
        OPERATOR.set(None)
        live.UNTIL.set(None)
        if handler.opt.get(ACCESS) == PUBLIC:
            return
        operator = await self._operator(connection)
        if operator is None:
            query = connection.scope["query_string"].decode("latin-1")
            raise SignInNeeded(connection.scope["path"] + (f"?{query}" if query else ""))
        if OPS_READ not in operator.caller.scopes:
            raise Problem(403, "insufficient-scope", f"your token lacks the scope {OPS_READ}")
        OPERATOR.set(operator := operator._replace(form_token=self._form.token))
        live.UNTIL.set(partial(self.until_over, operator=operator))

    async def _operator(self, connection: AnyConnection) -> Operator | None:
        sent = connection.headers.get("authorization")
        if sent is not None:
            return await self._verified(bearer_token(sent) or "")
        session = _cookie(connection.headers.get("cookie", ""), self._cookie)
        return await self._sessions.get(session) if session else None

    async def _verified(self, token: str) -> Operator:
        try:
            return await self._sessions.verify(token)
        except TokenRefused as refused:
            raise Problem(401, "unauthorized", str(refused), {"WWW-Authenticate": "Bearer"}) from refused
        except KeysUnavailable as unavailable:
            raise Problem(503, "unavailable", f"tokens cannot be verified now: {unavailable}") from unavailable

    def routes(self) -> list[ControllerRouterHandler]:
        @get(PATH, include_in_schema=False, opt={ACCESS: PUBLIC}, sync_to_thread=False)
        def show(request: AnyRequest) -> Response[str]:
            wanted = own_path(request.query_params.get("next", "/"))
            return page("sign_in.html", token=self._form.token, wanted=wanted, why="")

        @post(PATH, include_in_schema=False, opt={ACCESS: PUBLIC})
        async def enter(request: AnyRequest) -> Response[Any]:
            fields = await self._form.read(request)
            wanted = own_path(fields.get("next", ["/"])[0])
            try:
                operator = await self._verified("".join(fields.get("own", [""])[0].split()))
                if OPS_READ not in operator.caller.scopes:
                    raise Problem(403, "insufficient-scope", f"this token lacks the scope {OPS_READ}")
            except Problem as problem:
                again = {"token": self._form.token, "wanted": wanted, "why": problem.body.detail}
                return page("sign_in.html", status=problem.body.status, **again)
            signed_in = self._sessions.begin(operator)
            left_s = max(1, int(signed_in.caller.expires_at - time()))
            return Redirect(wanted, status_code=303, cookies=[self._made(signed_in.session, left_s)])

        @post("/sign-out", include_in_schema=False)
        async def leave(request: AnyRequest) -> Redirect:
            await self._form.read(request)
            operator = OPERATOR.get()
            if operator is not None:
                self._sessions.end(operator.session)
            return Redirect(PATH, status_code=303, cookies=[self._made("", 0)])

        return [show, enter, leave]

    def _made(self, session: str, left_s: int) -> Cookie:
        return Cookie(
            self._cookie, value=session, max_age=left_s, httponly=True, samesite="strict", secure=self._over_tls
        )

    async def until_over(self, events: AsyncIterator[bytes], operator: Operator) -> AsyncGenerator[bytes, None]:
        """Yield the events until the operator's token expires or the operator signs out."""
        until = asyncio.get_running_loop().time() + operator.caller.expires_at - time()
        while not self._sessions.is_over(operator):
            try:
                async with asyncio.timeout_at(until):
                    event = await anext(events)
            except (TimeoutError, StopAsyncIteration):
                break
            yield event
        if isinstance(events, AsyncGenerator):
            await events.aclose()


def on_sign_in_needed(request: AnyRequest, needed: SignInNeeded) -> Response[Any]:
    """Lead a person to the page where to sign in; a page that is open already gets 401, and says so."""
    if request.method == "GET" and "text/event-stream" not in request.headers.get("accept", ""):
        return Redirect(f"{PATH}?next={quote(needed.path, safe='')}", status_code=303)
    why = "you are signed out, or your token has expired: sign in again"
    return page("error.html", status=401, code=401, why=why)


def own_path(text: str) -> str:
    """Return the text if it is a path of this dashboard, else `/`: nobody is led elsewhere after signing in."""
    fits = len(text) <= LONGEST_PATH and _OWN_PATH.fullmatch(text) is not None and not urlsplit(text).netloc
    return text if fits and not text.startswith((PATH, "/sign-out")) else "/"


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value
