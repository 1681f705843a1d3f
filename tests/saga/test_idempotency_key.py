"""The header Idempotency-Key: with the quotes of the IETF's draft or without them, it is one key."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from infra.http.idempotency_key import read_key
from tests.saga.asking import problem, records, settled
from tests.shop import Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = ["order", "product", "point"]


async def ask(shop: Shop, service: str, key: str, amount: int = 1) -> httpx.Response:
    """A request that counts once per key."""
    if service == "order":
        return await shop.place([("mug", amount)], user="ann", key=key)
    if service == "product":
        return await shop.post("product", "/products/mug/stock", {"quantity": amount}, key=key)
    return await shop.post("point", "/points/ann/charge", {"amount": amount}, key=key)


@pytest_asyncio.fixture(autouse=True, scope="module", loop_scope="module")
async def mug(open_all_day: Shop) -> None:
    await open_all_day.register("mug")


@pytest.mark.parametrize("service", ROUTES)
@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("k1", '"k1"'),
        ('"k2"', "k2"),
        ('"k3"', '"k3"'),
        (r'"a\"b\\c"', r'"a\"b\\c"'),
        (r'"a\\d"', r"a\d"),
        ('"a e"', '"a e"'),
    ],
)
async def test_a_key_with_quotes_and_without_is_one_request(
    open_all_day: Shop, service: str, first: str, again: str
) -> None:
    once = await ask(open_all_day, service, first)
    before = await settled(open_all_day)

    twice = await ask(open_all_day, service, again)

    assert once.is_success
    assert "Idempotent-Replayed" not in once.headers
    assert twice.headers["Idempotent-Replayed"] == "true"
    assert twice.json() == once.json()
    assert (once.headers["Idempotency-Key"], twice.headers["Idempotency-Key"]) == (first, again)
    problem(await ask(open_all_day, service, again, amount=2), 422, "idempotency-key-reused")
    assert records(open_all_day) == before


@pytest.mark.parametrize("service", ROUTES)
@pytest.mark.parametrize(
    "key",
    [
        '"', '""', '"k1', 'k1"', '"k1""', '"k"1"', '"k1"; a=1', '"k1", "k2"', r'"k1\"', r'"k\1"',

        '"k\t1"', '"k1" x', "k 1",
        '"' + "k" * 256 + '"', "k" * 256,
    ],
)  # fmt: skip
async def test_a_key_that_is_quoted_wrongly_is_refused(open_all_day: Shop, service: str, key: str) -> None:
    before = records(open_all_day)

    wrong = problem(await ask(open_all_day, service, key), 400, "invalid-request")

    assert [(error["field"], error["source"]) for error in wrong["errors"]] == [("Idempotency-Key", "header")]
    assert records(open_all_day) == before


@pytest.mark.parametrize("service", ROUTES)
@pytest.mark.parametrize("key", ["k" * 255, '"' + "l" * 255 + '"', '"' + r"\"" * 255 + '"', "!", 'a"b', "~"])
async def test_every_other_key_is_taken(open_all_day: Shop, service: str, key: str) -> None:
    assert (await ask(open_all_day, service, key)).is_success


async def test_keys_of_old_histories_with_quotes_are_recognised(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.register("mug")
        for service in ROUTES:
            await shop.stop(service)
        await shop.start(*ROUTES, wrapper="quoting")
        old = {(service, key): await ask(shop, service, key) for service in ROUTES for key in ("k1", '"k1"', '"k2"')}
        for service in ROUTES:
            await shop.stop(service)
        await shop.start(*ROUTES)
        before = await settled(shop)

        for (service, key), first in old.items():
            again = await ask(shop, service, key)
            assert again.headers["Idempotent-Replayed"] == "true"
            if service == "order":
                assert again.json() == first.json()
        assert records(shop) == before


async def test_only_a_key_in_quotes_is_looked_up() -> None:
    asked: list[Any] = []

    async def is_recorded(key: str) -> bool:
        asked.append(key)
        return key == '"old"'

    assert [await read_key(sent, is_recorded) for sent in ("k", 'a"b', '"old"', '"new"', r'"a\"b"')] == [
        "k", 'a"b', '"old"', "new", 'a"b',
    ]  # fmt: skip
    assert asked == ['"old"', '"new"', r'"a\"b"']
