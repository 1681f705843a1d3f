"""Asking a shop over HTTP, and telling what kind of refusal came back."""

from typing import Any

import httpx

from infra.local.services import service_names
from tests.shop import JSON, Shop, logged

ANN = {"X-User-Id": "ann"}
KEY = {"Idempotency-Key": "k1"}


def records(shop: Shop) -> dict[str, int]:
    return {name: logged(shop.folder, name) for name in service_names()}


async def settled(shop: Shop) -> dict[str, int]:
    """How many records each service has, once nothing more comes of what was asked before."""
    await shop.until_quiet()
    return records(shop)


async def send(
    shop: Shop, method: str, service: str, path: str, body: bytes = b"", headers: Any = None
) -> httpx.Response:
    given = httpx.Headers(headers)
    if "content-type" not in given:
        given = httpx.Headers([*httpx.Headers(JSON).raw, *given.raw])
    return await shop.http.request(method, shop.url(service, path), content=body, headers=given)


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem that an answer is."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"/problems/{slug}", status)
    assert body["title"]
    assert body["detail"]
    return body
