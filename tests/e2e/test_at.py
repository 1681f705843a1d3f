"""`orders at` on a shop that was open: the state as it was after each fact, from the log alone."""

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from infra.store.records import Record
from infra.store.sqlite import SQLiteStore
from infra.timestamps import now
from ops import at
from ops.errors import Found
from tests.ops.asking import orders
from tests.shop import Shop, log_of, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def closed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Shop, str]]:
    """A shop that is closed, and an order that was confirmed and then canceled by its customer."""
    async with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        await shop.register("mug", price=1_000, stock=5)
        await shop.charge("u1", 700)
        await shop.issue("c1", "u1", discount=100)
        order_id = (await shop.place([("mug", 2)], points=300, coupon="c1")).json()["order_id"]
        await shop.post("order", f"/orders/{order_id}/cancel", user="u1")
        await shop.until_quiet()
        yield shop, order_id


async def asked(shop: Shop, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return await orders(shop, "at", *arguments, **env)


async def then(shop: Shop, *arguments: str) -> dict[str, Any]:
    done = await asked(shop, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def history(shop: Shop, service: str, stream: str) -> list[tuple[int, str, str]]:
    """(position, fact, at) of a stream."""
    return [
        (entry.position, fact["type"], fact["at"])
        for entry in log_of(shop.folder, service)
        if entry.stream == stream and (fact := json.loads(entry.body))
    ]


async def test_as_it_is(closed: tuple[Shop, str]) -> None:
    shop, order_id = closed

    assert (await then(shop, "order", order_id))["state"]["reason"] == "customer-canceled"
    assert (await then(shop, "product", "mug"))["state"]["available"] == 5
    assert (await then(shop, "user", "u1"))["state"]["balance"] == 700
    assert (await then(shop, "coupon", "c1"))["state"]["order_id"] is None


@pytest.mark.parametrize(
    ("kind", "key", "service", "stream", "field", "values"),
    [
        ("product", "mug", "product", "product-mug", "available", [0, 5, 3, 5]),
        ("user", "u1", "point", "account-u1", "balance", [700, 400, 700]),
    ],
)
async def test_after_each_position_and_at_each_time(
    closed: tuple[Shop, str], kind: str, key: str, service: str, stream: str, field: str, values: list[int]
) -> None:
    shop, _ = closed
    facts = history(shop, service, stream)

    by_position = [await then(shop, kind, key, "--position", str(position)) for position, _, _ in facts]
    by_time = [await then(shop, kind, key, "--time", at) for _, _, at in facts]

    assert [found["fact"] for found in by_position] == [fact for _, fact, _ in facts]
    assert [found["version"] for found in by_position] == list(range(1, len(facts) + 1))
    assert [found["state"][field] for found in by_position] == values
    # Facts of one commit have one time: then all of them have happened.
    assert [found["position"] for found in by_time] == [
        max(position for position, _, other in facts if other == at) for _, _, at in facts
    ]


async def test_a_confirmed_order_before_it_was_canceled(closed: tuple[Shop, str]) -> None:
    shop, order_id = closed
    confirmed = history(shop, "order", f"order-{order_id}")[1]

    found = await then(shop, "order", order_id, "--time", confirmed[2])

    assert (found["fact"], found["state"]["reason"]) == ("order.confirmed", None)
    assert found["state"]["first_end"]["amount_due"] == 1_600
    assert found["state"]["status"] == "CONFIRMED"
    assert (await then(shop, "order", order_id))["state"]["status"] == "CANCELED"


async def test_a_person_reads_lines(closed: tuple[Shop, str]) -> None:
    shop, order_id = closed

    read = (await asked(shop, "user", "u1")).stdout.splitlines()

    assert read[0].split() == ["stream", "account-u1"]
    assert ["balance", "700"] in [line.split() for line in read]
    order = (await asked(shop, "order", order_id)).stdout.splitlines()
    assert ["status", "CANCELED"] in [line.split() for line in order]


async def test_each_order_of_an_account_is_a_thing_of_its_own(closed: tuple[Shop, str]) -> None:
    shop, order_id = closed

    read = (await asked(shop, "pointuse", order_id)).stdout.splitlines()

    assert read[0].split() == ["stream", f"pointuse-{order_id}"]
    assert ["answer", "refunded"] in [line.split() for line in read]
    assert not any("{" in line for line in read)


async def test_exit_codes_tell_scripts_what_is_wrong(closed: tuple[Shop, str], tmp_path: Path) -> None:
    shop, _ = closed

    unborn = await asked(shop, "user", "u1", "--time", "2020-01-01T00:00:00+00:00")
    unknown = await asked(shop, "coupon", "nobody")
    no_time = await asked(shop, "user", "u1", "--time", "yesterday")
    both = await asked(shop, "user", "u1", "--time", "2026-01-01T00:00:00Z", "--position", "1")
    no_kind = await asked(shop, "basket", "b1")
    nowhere = await asked(shop, "user", "u1", DATA_DIR=str(tmp_path))

    assert [unborn.returncode, unknown.returncode] == [1, 1]
    assert [no_time.returncode, both.returncode, no_kind.returncode] == [2, 2, 2]
    assert "is not a time" in no_time.stderr
    assert nowhere.returncode == 3
    assert "DATA_DIR" in nowhere.stderr


@pytest.mark.parametrize("body", [b"", b'{"at":"2026-03-02T00:00:00"}', b'{"x":' + b"[" * 100_000])
async def test_before_a_time_a_record_that_cannot_be_read_is_named(tmp_path: Path, body: bytes) -> None:
    async with SQLiteStore.open(tmp_path / "order" / "events.sqlite") as store:
        await store.insert_events([Record("order-o1", 1, "order.created.pending", body)])

    with pytest.raises(Found, match=r"order-o1@1 .* cannot be read"):
        await at.history({"DATA_DIR": str(tmp_path)}, "order", "o1", time=now())
