"""HTTP to a service on this machine."""

import ssl
from collections.abc import Mapping
from typing import Final

import httpx

from ops.errors import Unreachable

TIMEOUT_S: Final = 90.0
"""Far longer than the default ORDER_WAIT_S. With a longer one, a request may end before its order does."""

PLAIN_HTTP: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Services speak plain HTTP. Without this, httpx would load the certificates of all authorities for each request."""


def request(method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """The response, of any status, with a body in JSON. No proxy of the environment is used. Raises Unreachable."""
    try:
        response = httpx.request(
            method, url, json=body, headers=headers, timeout=TIMEOUT_S, trust_env=False, verify=PLAIN_HTTP
        )
        response.json()
    except httpx.ConnectError as error:
        raise Unreachable(f"{url} cannot be reached: {error}") from error
    except (httpx.HTTPError, ValueError) as error:
        raise Unreachable(f"{url} does not answer as a service does: {error!r}") from error
    return response
