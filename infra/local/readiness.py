"""Ask services on this machine whether they are ready."""

import contextlib
import functools
from collections.abc import Mapping
from typing import Final

import httpx

from infra.local.processes import Process, start_attempts
from infra.local.services import own_service_url

TIMEOUT_S: Final = 2.0

UNREACHABLE: Final = "it does not answer"


def why_not_ready(url: str) -> str | None:
    """Why the service at this URL is not ready, in its own words; None if it is ready."""
    try:
        answer = _client().get(f"{url}/readyz")
    except httpx.TransportError:
        return UNREACHABLE
    if answer.is_success:
        return None
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return str(answer.json()["detail"])
    return f"it answers {answer.status_code}"


def wait_ready(name: str, env: Mapping[str, str], process: Process) -> None:
    """Wait until a service is ready. Raises StartFailed."""
    wait_until_ready(own_service_url(name, env), f"{name}_svc", process)


def wait_until_ready(url: str, name: str, process: Process) -> None:
    """Wait until the service that this process runs at this URL is ready. Raises StartFailed."""
    for _ in start_attempts(process, name):
        if why_not_ready(url) is None:
            break


@functools.cache
def _client() -> httpx.Client:
    """One client for all questions, for it takes 20 ms to make. It keeps no connection, as services come and go.

    It ignores the environment's proxies: they cannot reach a service on this machine.
    """
    return httpx.Client(timeout=TIMEOUT_S, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
