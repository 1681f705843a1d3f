"""A fact that breaks the contract silences nobody: what would follow from it is not recorded, and orders go on."""

import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts import Fact
from contracts.wire import MSG_ID, NAMES, POSITION, STREAM, VERSION, encode, header_value, message_id
from infra.store.sqlite import SQLiteStore
from tests.examples import CUSTOMER, MUG, order_created, points_used, product_reserved
from tests.infra.broker.mirroring import charged
from tests.saga.test_dead_letters import until_parked
from tests.shop import Shop, attempts, logged, open_shop

LINES = [{"product_id": f"{n:064}", "quantity": 1} for n in range(680)]
"""More than a message takes: as many of them are sent as just fit, so no fact that follows from it does."""

ORDERS: dict[str, dict[str, Any]] = {
    "a blank in a user": {"user_id": "a b"},
    "no user": {"user_id": ""},
    "a header in a user": {"user_id": "ann\r\nNats-Rollup: all"},
    "a null character in a user": {"user_id": "ann\0"},
    "a user beyond 64 characters": {"user_id": "u" * 65},
    "a user that is not ASCII": {"user_id": "änn"},
    "a wildcard as the coupon": {"coupon_id": ">"},
    "a coupon of two tokens": {"coupon_id": "a.b"},
    "65 KB of lines": {"lines": LINES},
    "negative points": {"points": -1},
    "points beyond 2^53": {"points": 10**30},
    "a time without an offset": {"placed_at": "2026-01-01T00:00:00"},
    "nested deeply": {"lines": json.loads("[" * 500 + "]" * 500)},
}
HEARD: list[tuple[str, Fact, set[str]]] = [
    ("product", order_created(), {"65 KB of lines", "negative points", "points beyond 2^53", "nested deeply"}),
    (
        "point",
        product_reserved(),
        {"65 KB of lines", "negative points", "points beyond 2^53", "a time without an offset", "nested deeply"},
    ),
    ("coupon", points_used(), {"65 KB of lines", "nested deeply"}),
]
"""Who hears which fact, and which of the flaws keep it from an answer.

The others are refused: an answer has the order's id, whatever the customer's and the coupon's are.
"""


def raw(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


async def say(shop: Shop, fact: Fact, order_id: str, number: int, **flaw: Any) -> None:
    body = json.loads(encode(fact))
    body |= {"order_id": order_id, "order": {**body["order"], **flaw}}
    while len(raw(body)) > 65_300:
        body["order"]["lines"] = body["order"]["lines"][:-1]
    if "unit_prices" in body:
        body["unit_prices"] = [1] * len(body["order"]["lines"])
        while len(raw(body)) > 65_300:
            body["order"]["lines"].pop()
            body["unit_prices"].pop()
    stream = f"{fact.stream.partition('-')[0]}-{body['order']['user_id'] if 'account' in fact.stream else order_id}"
    async with shop.broker() as nc:
        place = {STREAM: header_value(stream), VERSION: str(number), POSITION: "9999"}
        headers = {MSG_ID: message_id(stream, number), **place}
        await nc.jetstream().publish(f"{NAMES[type(fact)]}.{order_id}", raw(body), headers=headers)


@pytest.mark.parametrize(("service", "fact", "flaws"), HEARD, ids=lambda value: NAMES.get(type(value)))
async def test_what_cannot_be_published_is_parked_and_orders_go_on(
    tmp_path: Path, service: str, fact: Fact, flaws: set[str]
) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.register(MUG)
        await shop.charge(CUSTOMER, 1_000)
        await shop.until_quiet()
        before = logged(shop.folder, service)
        keys = {flaw: f"flaw{number}" for number, flaw in enumerate(ORDERS) if flaw in flaws}

        for number, (flaw, key) in enumerate(keys.items(), 10):
            await say(shop, fact, key, number, **ORDERS[flaw])

        found = await until_parked(shop, len(keys))
        assert {letter.key for letter in found if letter.consumer == service} == set(keys.values())
        assert logged(shop.folder, service) == before
        assert f"{service} has" in (await shop.get(service, "/readyz")).json()["warnings"][0]
        confirmed = await shop.place([(MUG, 1)], user=CUSTOMER, points=10)
        assert (confirmed.status_code, confirmed.json()["status"]) == (200, "CONFIRMED")
        await shop.stop(service)
        await shop.start(service)
        await shop.until_quiet()
        assert (await shop.place([(MUG, 1)], user=CUSTOMER)).status_code == 200


async def test_a_fact_that_older_code_recorded_and_the_broker_does_not_take_is_named_until_it_does(shop: Shop) -> None:
    await shop.register(MUG)
    await shop.charge("ann", 500)
    await shop.until_quiet()
    await shop.stop("point")
    async with SQLiteStore.open(shop.folder / "point" / "events.sqlite") as store:
        await store.insert_events([charged(2, padding=70_000), charged(1, "a b")])

    await shop.start("point", ready=False)

    async for _ in attempts("the reason"):
        with contextlib.suppress(httpx.TransportError):
            if "account-ann@2 at position 3 of point_svc's log" in (await shop.get("point", "/readyz")).text:
                break
    async for _ in attempts("the log to say it"):
        said = shop.log("point").read_text()
        if "[error    ] a recorded fact cannot be published" in said and "--max-msg-size" in said:
            break
    async with shop.broker() as nc:
        js = nc.jetstream()
        config = (await js.stream_info("EVENTS")).config
        config.max_msg_size = 1 << 20
        await js.update_stream(config)
    await shop.until_quiet()
    assert [event.position for event in await shop.events() if event.subject.startswith("point.charged")] == [2, 3, 4]
    assert (await shop.place([(MUG, 1)], user="ann", points=10)).json()["status"] == "CONFIRMED"
