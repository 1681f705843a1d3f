"""Ask services on this machine whether they are ready."""

import contextlib
import functools
import json
import os
from collections.abc import Mapping
from time import monotonic
from typing import Final

import httpx

from infra.auth.authorities import authorities
from infra.auth.token_file import token_file
from infra.local.processes import Process, start_attempts
from infra.local.services import own_service_url

TIMEOUT_S: Final = 2.0
"""How long one read may take, and all reads of the body together."""
LONGEST_ANSWER: Final = 1 << 17
"""Bytes of a body. A service has some hundred to say."""
READY: Final = "/readyz"
ALIVE: Final = "/healthz"
"""Tells of a process without readiness, such as the dashboard, that it answers."""

UNREACHABLE: Final = "it does not answer"

NO_ANSWER: Final = (httpx.HTTPError, httpx.InvalidURL, ValueError)
"""What httpx raises for a request to a right address: nobody answers, or another program answers what it cannot read.

InvalidURL, which is no HTTPError, comes of some Location headers, although no redirect is followed.
"""


def why_not_ready(url: str, pid: int | None = None, path: str = READY) -> str | None:
    """Ask the service at this base URL why it is not ready; return None if it is ready.

    `pid`: the id of the process that has to answer; None: any. An answer of another process counts as not ready.
    `path`: what is asked, READY or ALIVE. An answer to ALIVE names no process, so it needs `pid` None.

    Returns UNREACHABLE without an answer; else the service's own words, the status if there are none, or in words what
    is wrong with the answer. Blocks. Another program may listen there: whatever it answers, this raises nothing.
    """
    try:
        answer, body = _ask(f"{url}{path}")
    except httpx.TransportError:
        return UNREACHABLE
    except NO_ANSWER as error:
        return f"it does not answer as a service does: {error}"
    if answer.is_success:
        return None if pid is None else _another(body, pid)
    with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
        return str(json.loads(body)["detail"])
    return f"it answers {answer.status_code}"


def process_at(url: str) -> int | None:
    """Return the id of the process that answers at this base URL as a ready service does; None: no answer names it.

    Blocks. Another program may listen there: whatever it answers, this raises nothing.
    """
    try:
        return _pid(_ask(f"{url}{READY}")[1]) or None
    except NO_ANSWER:
        return None


def _another(body: bytes, pid: int) -> str | None:
    """Return in words that another process than `pid` gave the answer with this body; None: process `pid` gave it.

    None, too, if a ready service gave it that tells its process only to those who may know (`pid` is 0 there).
    """
    return None if _pid(body) in (pid, 0) else f"another program answers there, and not process {pid}"


def _pid(body: bytes) -> int | None:
    """Return the id of the process that this body of an answer names; 0: it is withheld; None: it names none."""
    with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
        pid = json.loads(body)["pid"]
        return pid if type(pid) is int and pid >= 0 else None
    return None


def _ask(url: str) -> tuple[httpx.Response, bytes]:
    """GET this URL; return the answer and its body. Raises ValueError if that is too long or slow; httpx's errors."""
    body, until = b"", monotonic() + TIMEOUT_S
    with _client().stream("GET", url) as answer:
        for part in answer.iter_bytes():
            body += part
            if len(body) > LONGEST_ANSWER:
                raise ValueError("it has too much to say")
            if monotonic() > until:
                raise ValueError("it is too slow")
    return answer, body


def wait_ready(name: str, env: Mapping[str, str], process: Process) -> None:
    """Wait until the service `name` is ready: `process` runs it, and `env` is its environment (`own_service_url`).

    An answer of another process does not count. Raises StartFailed if the process ends or the service is not ready
    within START_TIMEOUT_S.
    """
    wait_until_ready(own_service_url(name, env), f"{name}_svc", process, process.pid)


def wait_until_ready(url: str, name: str, process: Process, pid: int | None = None) -> None:
    """Wait until the service that `process` runs at this base URL is ready. `name` is for the message.

    `pid`: the process that has to answer; None: any.

    Raises StartFailed if the process ends or the service is not ready within START_TIMEOUT_S.
    """
    for _ in start_attempts(process, name):
        if why_not_ready(url, pid) is None:
            break


def forget_client() -> None:
    """Make the client for the next request anew: the environment has another token or authority."""
    _client.cache_clear()


@functools.cache
def _client() -> httpx.Client:
    """Return the one client for all requests, because making a client takes 20 ms.

    The client keeps no connection, as services come and go. It ignores the environment's proxies, which cannot reach a
    service on this machine. It sends the token in the file that TOKEN_FILE names.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    known = authorities(os.environ)
    return httpx.Client(timeout=TIMEOUT_S, trust_env=False, limits=limits, verify=known, auth=token_file(os.environ))
