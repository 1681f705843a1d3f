"""Sends HTTP requests to a service on this machine."""

import ssl
from collections.abc import Mapping
from typing import Final

import httpx

from ops.errors import Unreachable

TIMEOUT_S: Final = 90.0
"""Far longer than the default ORDER_WAIT_S, after which `POST /orders` answers in any case.

If ORDER_WAIT_S is set higher than this, a request may time out before its order ends.
"""

PLAIN_HTTP: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A TLS context that is never used: services speak plain HTTP.

Without it, httpx would load the certificates of all authorities for each request.
"""


def request(method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """Send one request, with `body` as JSON, and return the response. It may have any status; its body is JSON.

    It blocks, does not retry, and uses no proxy of the environment. Raises Unreachable if there is no connection, no
    answer within TIMEOUT_S, or an answer that is not JSON.
    """
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
