"""HTTP to a service on this machine."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import Any, NamedTuple

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""For services on this machine, which a proxy of the environment cannot reach."""

TIMEOUT_S = 90.0
"""Far longer than the default ORDER_WAIT_S; where that is set to more, a pending order is not waited for to its end."""


class Answer(NamedTuple):
    """What a service answered; the header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]


class Unreachable(Exception):
    """Nothing that speaks HTTP and JSON answers at this address; is the system running (`just up`)?"""


def request(method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Raises Unreachable. Every status is an answer, errors too."""
    data = None if body is None else json.dumps(body).encode()
    question = urllib.request.Request(  # noqa: S310 - the address is made of http:// and a port
        url, data, {"Content-Type": "application/json", **(headers or {})}, method=method
    )
    try:
        try:
            with DIRECT.open(question, timeout=TIMEOUT_S) as answer:
                return _answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.headers, error.read())
    except urllib.error.URLError as error:
        raise Unreachable(f"{url} cannot be reached: {getattr(error.reason, 'strerror', error.reason)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"{url} does not answer as a service does: {error!r}") from error


def _answer(status: int, headers: "Message[str, str]", body: bytes) -> Answer:
    return Answer(status, {name.lower(): value for name, value in headers.items()}, json.loads(body))
