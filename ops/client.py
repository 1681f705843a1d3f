"""Sends HTTP requests to the services on this machine. Every wait is bounded; each Unreachable names the service."""

import asyncio
import os
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import httpx

from infra.auth.authorities import authorities
from infra.auth.token_file import TOKEN_FILE, token_file
from infra.local.readiness import NO_ANSWER
from infra.local.services import service_names, service_url
from infra.printable import printable
from ops.errors import TooLate, Unreachable, Unusable

TIMEOUT_S: Final = 5.0
"""The longest wait for a service's whole answer, unless the caller or `--timeout` says otherwise."""
ATTEMPTS: Final = 5
"""How often a request is sent at most, while the service answers 503 and asks by Retry-After for another attempt."""
LONGEST_PAUSE_S: Final = 2.0
"""The longest pause before another attempt, whatever Retry-After says."""
SOON_S: Final = 10.0
"""A service that asks to wait longer than this waits for an operator, so nobody waits for it here."""
GOOD: Final = frozenset({200, 201, 202})
REFUSED_CALLER: Final = frozenset({401, 403})
NEXT_STEP: Final = f"{TOKEN_FILE} names the file with your token (docs/security.md)"
LONGEST_DETAIL: Final = 500  # characters of the text that `problem` makes of an answer


class ServiceAddress(NamedTuple):
    """A service's name, without `_svc`, and the URL of its HTTP API."""

    name: str
    url: str

    def __str__(self) -> str:
        return f"{self.name}_svc at {self.url}"


class ServiceRequest(NamedTuple):
    """A request to a service; `body` is sent as JSON. `body` None: the request has no body."""

    service: ServiceAddress
    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] = {}

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class ServiceAnswer(NamedTuple):
    """A service's answer: its status, its body, which is a JSON object, and its headers, by lower-case names."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


class UnexpectedAnswer(Unreachable):
    """The service has answered with a status that the caller did not expect. `answer` is that answer."""

    def __init__(self, why: str, answer: ServiceAnswer) -> None:
        super().__init__(why)
        self.answer = answer


def services(env: Mapping[str, str]) -> dict[str, ServiceAddress]:
    """Return all services of this checkout, by name, as `env` addresses them. Raises SettingsError."""
    return {name: ServiceAddress(name, service_url(name, env)) for name in service_names()}


def send(request: ServiceRequest, timeout_s: float = TIMEOUT_S) -> ServiceAnswer:
    """Send the request, once, and return the answer, whatever its status is. It blocks.

    Raises Unreachable without a connection, without the whole answer within `timeout_s` seconds, and for an answer that
    is no JSON object.
    """

    async def run() -> ServiceAnswer:
        async with http_client() as http:
            return await send_with(http, request, timeout_s)

    return asyncio.run(run())


def ask(request: ServiceRequest, expected: Collection[int] = GOOD, timeout_s: float = TIMEOUT_S) -> ServiceAnswer:
    """Send a request that may be repeated, and return the answer; see `ask_with`. It blocks."""

    async def run() -> ServiceAnswer:
        async with http_client() as http:
            return await ask_with(http, request, expected, timeout_s)

    return asyncio.run(run())


async def ask_with(
    http: httpx.AsyncClient, request: ServiceRequest, expected: Collection[int] = GOOD, timeout_s: float = TIMEOUT_S
) -> ServiceAnswer:
    """Send a request that may be repeated, and return the answer, which has an expected status.

    After a 503 that asks by Retry-After for another attempt soon it is sent again, up to ATTEMPTS times in all.
    `timeout_s`: the longest wait for the answer, in seconds, at each attempt; the pauses are in addition. Raises
    Unreachable as `send` does; UnexpectedAnswer, with the service's own words, if the last status is not in `expected`.
    """
    service = request.service
    for left in reversed(range(ATTEMPTS)):
        answer = await send_with(http, request, timeout_s)
        if answer.status in expected:
            return answer
        pause_s = _pause_s(answer)
        if pause_s is None:
            raise UnexpectedAnswer(f"{service} answers {request} with {problem(answer)}", answer)
        if left:
            await asyncio.sleep(pause_s)
    raise UnexpectedAnswer(
        f"{service} answers {request} with {problem(answer)} ({ATTEMPTS} times); it is overloaded or not ready: "
        f"{service.url}/readyz says more",
        answer,
    )


def http_client() -> httpx.AsyncClient:
    """Return a client for services on this machine: no proxy of the environment, no time limit of its own.

    It sends the token in the file that TOKEN_FILE names. Raises Unusable if there is no token, or no authority of TLS.
    """
    token = token_file(os.environ)
    try:
        if token is not None:
            token.token()
        known = authorities(os.environ)
    except ValueError as error:
        raise Unusable(str(error)) from error
    return httpx.AsyncClient(timeout=httpx.Timeout(None), trust_env=False, verify=known, auth=token)


def problem(answer: ServiceAnswer) -> str:
    """Return an answer's status, title and detail, and the next step if a token is missing, as one printable text.

    What the service says is cut after LONGEST_DETAIL characters. Escapes for what is not printable may make it longer.
    """
    words = [str(answer.body[name]) for name in ("title", "detail") if answer.body.get(name)]
    step = f"; {NEXT_STEP}" if answer.status in REFUSED_CALLER else ""
    return printable(": ".join([str(answer.status), *words])[:LONGEST_DETAIL]) + step


async def text_with(http: httpx.AsyncClient, request: ServiceRequest, timeout_s: float) -> str:
    """Send the request, once, and return the answer's body as text. Raises Unreachable if its status is not in GOOD.

    Raises Unreachable also without a connection or without the whole answer within `timeout_s` seconds.
    """
    response = await _received(http, request, timeout_s)
    if response.status_code in REFUSED_CALLER:
        told = problem(_answer(request, response))
        raise Unreachable(f"{request.service} answers {request} with {told}")
    if response.status_code not in GOOD:
        raise _not_a_service(request, f": {response.status_code}")
    return response.content.decode(errors="replace")


async def send_with(http: httpx.AsyncClient, request: ServiceRequest, timeout_s: float) -> ServiceAnswer:
    """Send the request, once, and return the answer; see `send`."""
    return _answer(request, await _received(http, request, timeout_s))


def _answer(request: ServiceRequest, response: httpx.Response) -> ServiceAnswer:
    try:
        told = response.json()
    except (ValueError, RecursionError) as error:
        raise _not_a_service(request, f": {str(error).strip() or type(error).__name__}") from error
    if not isinstance(told, dict):
        raise _not_a_service(request)
    return ServiceAnswer(response.status_code, told, {name.lower(): value for name, value in response.headers.items()})


async def _received(http: httpx.AsyncClient, request: ServiceRequest, timeout_s: float) -> httpx.Response:
    service = request.service
    try:
        async with asyncio.timeout(timeout_s):
            return await http.request(
                request.method, f"{service.url}{request.path}", json=request.body, headers=request.headers
            )
    except TimeoutError:
        raise TooLate(
            f"{service} has not answered {request} within {timeout_s:g} s: it hangs, is stopped or has too much to do; "
            "its log says more"
        ) from None
    except httpx.ConnectError as error:
        raise Unreachable(f"{service} cannot be reached: {error}") from error
    except NO_ANSWER as error:
        raise _not_a_service(request, f": {str(error).strip() or type(error).__name__}") from error


def _not_a_service(request: ServiceRequest, why: str = "") -> Unreachable:
    return Unreachable(
        f"{request.service} does not answer as a service does ({request}{printable(why)}); was it stopped, or does "
        "another program listen there?"
    )


def _pause_s(answer: ServiceAnswer) -> float | None:
    """Return the pause, in seconds, before another attempt; None if another one would not help soon."""
    if answer.status != 503 or "retry-after" not in answer.headers:
        return None
    asked = answer.headers["retry-after"].strip()
    asked_s = float(asked) if asked.isascii() and asked.isdigit() else LONGEST_PAUSE_S
    return min(asked_s, LONGEST_PAUSE_S) if asked_s <= SOON_S else None
