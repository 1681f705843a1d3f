"""What fails inside is a problem outside: 503 where trying again helps, 500 without a word of the cause where not."""

import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar import get
from litestar.params import FromPath

from infra.core.errors import Busy, StoreUnavailable
from infra.http.app import build_app
from infra.read_models.errors import ViewBehind

FAILURES: dict[str, Exception] = {
    "busy": Busy(),
    "store": StoreUnavailable("disk I/O error"),
    "view": ViewBehind("the view catalog has not caught up with the log"),
    "bug": KeyError("secret"),
    "nesting": RecursionError("maximum recursion depth exceeded"),
}
STANDS_IN_THE_WAY: list[str] = []


@get("/fail/{how:str}")
async def fail(how: FromPath[str]) -> str:
    raise FAILURES[how]


async def readiness() -> list[str]:
    return STANDS_IN_THE_WAY


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app: Any = build_app("test_svc", [fail], readiness)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("how", ["busy", "store", "view"])
async def test_what_may_work_in_a_second_is_503_with_retry_after(client: httpx.AsyncClient, how: str) -> None:
    answer = await client.get(f"/fail/{how}")

    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["type"] == "/problems/unavailable"
    assert answer.headers["Retry-After"] == "1"


async def test_a_request_that_records_nothing_is_told_neither_of_recording_nor_to_repeat_a_key(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/fail/store")

    assert answer.json()["detail"] == (
        "the store cannot be used right now (disk I/O error); retry, with the same Idempotency-Key if you sent one"
    )


async def test_our_own_mistakes_are_500_and_tell_nothing_but_that(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fail/bug")

    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["type"] == "/problems/internal-error"
    assert "secret" not in answer.text


async def test_json_that_is_nested_too_deeply_is_the_clients_mistake(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fail/nesting")

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-request")


async def test_readiness_says_all_that_stands_in_the_way(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = {"ready": True, "pid": os.getpid(), "why": [], "warnings": []}
    assert (await client.get("/readyz")).json() == ready
    monkeypatch.setattr(f"{__name__}.STANDS_IN_THE_WAY", ["no broker", "disk full"])

    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/not-ready")
    assert answer.json()["detail"] == "no broker; disk full"
    assert (await client.get("/healthz")).status_code == 200
