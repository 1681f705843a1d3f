"""`orders find`: the same orders as those that one would find by looking at each of them, and why there is none."""

import asyncio
import contextlib
import json
import random
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from contracts import Fact, Line, OrderCanceled, OrderConfirmed, OrderCreatedPending, Reason
from contracts.fact import Order
from contracts.wire import NAMES, encode, said_by
from infra.core.decider import moved_facts
from infra.read_models.tables import Checkpoint, Tables
from infra.store.records import Record
from infra.store.sqlite import SQLiteStore
from ops.find.criteria import Criteria
from ops.find.search import FoundOrders, Search, search
from ops.progress import watched
from order_svc.domain import Status
from order_svc.listing import Listing
from tests.examples import (
    coupon_used,
    order_canceled,
    order_confirmed,
    order_created,
    points_refunded,
    points_used,
    product_released,
    product_reserved,
    reserve_failed,
    use_of_coupon_voided,
    use_of_points_failed,
)
from tests.metrics.exported import service_of
from tests.ops.asking import orders, told
from tests.shop import Shop, attempts, open_shop

OPENING = datetime(2026, 1, 31, 9, tzinfo=UTC)
ORDERS = 400
APART = timedelta(seconds=7)
USERS, PRODUCTS, COUPONS = ["u1", "u2", "u3"], ["mug", "tea", "cup"], [None, None, "c1", "c11"]
REASONS: list[Reason] = ["coupon-expired", "product-out-of-stock", "customer-canceled"]


@dataclass
class Had:
    """What an order is in the end, as the test that made it knows."""

    placed: Order
    order_id: str
    status: Status = "PENDING"
    reason: str | None = None
    ended_at: datetime | None = None

    def fits(self, asked: Criteria) -> bool:
        at = self.placed.placed_at if asked.by == "placed" else self.ended_at
        return (
            asked.user in (None, self.placed.user_id)
            and asked.coupon in (None, self.placed.coupon_id)
            and asked.status in (None, self.status)
            and asked.reason in (None, self.reason)
            and asked.product in (None, *(line.product_id for line in self.placed.lines))
            and at is not None
            and (asked.since is None or at >= asked.since)
            and (asked.until is None or at <= asked.until)
        )


class History:
    """A log of order_svc in which orders are placed, end, and are canceled afterwards, in many a sequence."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.facts: list[OrderCreatedPending | OrderConfirmed | OrderCanceled] = []
        self.orders: dict[str, Had] = {}
        now = OPENING
        for number in range(ORDERS):
            now += APART
            self._place(f"order{number}", now)
            for had in list(self.orders.values()):
                self._go_on(had, now + timedelta(milliseconds=self._random.randrange(1_000)))

    def _place(self, order_id: str, now: datetime) -> None:
        some = self._random
        lines = tuple(Line(one, 1) for one in some.sample(PRODUCTS, some.randint(1, 2)))
        placed = Order(some.choice(USERS), lines, 10, some.choice(COUPONS), now)
        self.orders[order_id] = Had(placed, order_id)
        deadline = now + timedelta(minutes=1)
        self.facts.append(OrderCreatedPending(at=now, order_id=order_id, order=placed, deadline=deadline))

    def _go_on(self, had: Had, now: datetime) -> None:
        chance, of = self._random.random(), {"at": now, "order_id": had.order_id, "order": had.placed}
        if had.status == "PENDING" and chance < 0.2:
            had.status, had.ended_at = "CONFIRMED", now
            amounts = {"unit_prices": (1,) * len(had.placed.lines), "total": 2, "points": 0, "discount": 0}
            self.facts.append(OrderConfirmed(**of, cause="coupon-c1@2", amount_due=2, **amounts))  # type: ignore[arg-type]
        elif (had.status == "PENDING" and chance < 0.3) or (had.status == "CONFIRMED" and chance < 0.002):
            reason = self._random.choice(REASONS) if had.status == "PENDING" else "customer-canceled"
            had.status, had.reason, had.ended_at = "CANCELED", reason, now
            self.facts.append(OrderCanceled(**of, reason=reason))  # type: ignore[arg-type]

    def fitting(self, asked: Criteria) -> list[Had]:
        """The orders that fit, the newest first."""
        wanted = [had for had in self.orders.values() if had.fits(asked)]
        placed = {fact.order_id: at for at, fact in enumerate(self.facts) if isinstance(fact, OrderCreatedPending)}
        ended = {fact.order_id: at for at, fact in enumerate(self.facts) if not isinstance(fact, OrderCreatedPending)}
        return sorted(wanted, key=lambda had: -(placed if asked.by == "placed" else ended)[had.order_id])


def recorded(facts: Sequence[Fact]) -> list[Record]:
    versions: Counter[str] = Counter()
    made = []
    for fact in facts:
        versions[fact.stream] += 1
        made.append(Record(fact.stream, versions[fact.stream], NAMES[type(fact)], encode(fact)))
    return made


async def record(folder: Path, records: Sequence[Record], listed: int | None) -> None:
    """Record this log below the folder, and an order list that has read up to position `listed`; None: no list."""
    async with SQLiteStore.open(folder / "order" / "events.sqlite", service="order") as store:
        await store.insert_events(records)
        if listed is not None:
            async with Tables.open(Listing(), folder / "order") as tables:
                await tables.apply(await store.select_notifications(0, listed), Checkpoint(listed))


async def find(folder: Path, asked: Search) -> FoundOrders:
    with watched(as_lines=False) as watch:
        return await search({"DATA_DIR": str(folder)}, asked, watch)


HISTORY = History()
FACTS = len(HISTORY.facts)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same log with an order list that has read all of it, with one that lags, and without one."""
    made = []
    for listed in (FACTS, FACTS // 2, None):
        made.append(tmp_path_factory.mktemp("data"))
        asyncio.run(record(made[-1], recorded(HISTORY.facts), listed))
    return made


TIMES = st.none() | st.integers(-APART.seconds, (ORDERS + 1) * APART.seconds).map(
    lambda seconds: OPENING + timedelta(seconds=seconds)
)
CRITERIA = st.builds(
    Criteria,
    user=st.none() | st.sampled_from([*USERS, "u9"]),
    product=st.none() | st.sampled_from([*PRODUCTS, "m"]),
    coupon=st.none() | st.sampled_from(["c1", "c11", "c"]),
    status=st.none() | st.sampled_from(["PENDING", "CONFIRMED", "CANCELED"]),
    reason=st.none() | st.sampled_from(REASONS),
    since=TIMES,
    until=TIMES,
    by=st.sampled_from(["placed", "ended"]),
    uncompensated=st.just(False),
)


@given(asked=CRITERIA, limit=st.integers(1, 30), which=st.integers(0, 2), whole=st.booleans())
@example(asked=Criteria(status="CONFIRMED", by="ended"), limit=30, which=0, whole=False)
@example(asked=Criteria(user="u1", by="ended"), limit=3, which=1, whole=False)
@example(asked=Criteria(status="PENDING"), limit=1, which=1, whole=False)
@settings(max_examples=50, deadline=None)
def test_pages_have_every_order_that_fits_once_newest_first(
    folders: list[Path], asked: Criteria, limit: int, which: int, whole: bool
) -> None:
    wanted = HISTORY.fitting(asked)

    found, before = [], None
    while True:
        page = asyncio.run(find(folders[which], Search(asked, before, limit, whole=whole)))
        assert len(page.orders) <= limit
        found += page.orders
        before = page.following
        if before is None:
            break

    assert [one.order_id for one in found] == [had.order_id for had in wanted]
    assert [(one.status, one.reason, one.ended_at) for one in found] == [
        (had.status, had.reason, had.ended_at) for had in wanted
    ]


@given(asked=CRITERIA, which=st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_counts_are_those_of_all_pages(folders: list[Path], asked: Criteria, which: int) -> None:
    wanted = Counter((had.status, had.reason) for had in HISTORY.fitting(asked))

    found = asyncio.run(find(folders[which], Search(asked, limit=1, counting=True)))

    assert {(one.status, one.reason): one.orders for one in found.counts} == wanted
    assert [one.orders for one in found.counts] == sorted(wanted.values(), reverse=True)


def test_a_short_time_reads_a_short_part_of_the_log(folders: list[Path]) -> None:
    middle = OPENING + ORDERS // 2 * APART
    asked = Criteria(since=middle, until=middle + 3 * APART)

    found = asyncio.run(find(folders[0], Search(asked)))

    assert len(found.orders) == 4
    assert found.within.until - found.within.after < FACTS / 10
    whole = asyncio.run(find(folders[0], Search(asked, whole=True)))
    assert (whole.orders, whole.within) == (found.orders, (0, FACTS))


async def test_a_fact_that_waited_its_turn_is_found_by_its_time(tmp_path: Path) -> None:
    """A request takes its time when it comes, and its place in the log when its turn comes."""
    facts = [structs.replace(fact) for fact in HISTORY.facts if isinstance(fact, OrderCreatedPending)]
    late = facts.pop(100)
    facts.insert(100 + 50 // APART.seconds, late)
    await record(tmp_path, recorded(facts), None)

    found = await find(tmp_path, Search(Criteria(since=late.at, until=late.at)))

    assert [one.order_id for one in found.orders] == [late.order_id]


async def test_the_log_is_right_where_the_list_is_not(tmp_path: Path) -> None:
    await record(tmp_path, recorded(HISTORY.facts), FACTS)
    with contextlib.closing(sqlite3.connect(tmp_path / "order" / "orders.view.sqlite", isolation_level=None)) as view:
        view.execute("UPDATE orders SET user_id = 'u9', status = 'PENDING' WHERE order_id IN ('order1', 'order2')")

    assert not (await find(tmp_path, Search(Criteria(user="u9")))).orders
    pending = [had.order_id for had in HISTORY.fitting(Criteria(status="PENDING"))]
    assert [one.order_id for one in (await find(tmp_path, Search(Criteria(status="PENDING")))).orders] == pending
    for user in USERS:
        asked = Search(Criteria(user=user), limit=ORDERS, whole=True)
        assert [one.order_id for one in (await find(tmp_path, asked)).orders] == [
            had.order_id for had in HISTORY.fitting(Criteria(user=user))
        ]


async def test_a_list_that_cannot_be_read_is_said_and_not_needed(tmp_path: Path) -> None:
    await record(tmp_path, recorded(HISTORY.facts), None)
    (tmp_path / "order" / "orders.view.sqlite").write_bytes(b"no database, but bytes of something else\n" * 100)

    found = await find(tmp_path, Search(Criteria(user="u1"), limit=ORDERS))

    assert len(found.orders) == len(HISTORY.fitting(Criteria(user="u1")))
    assert len(found.notes) == 1
    assert "orders.view.sqlite cannot be read (" in found.notes[0]


async def test_what_is_damaged_or_of_newer_code_is_named(tmp_path: Path) -> None:
    records = recorded(HISTORY.facts)
    body = next(one.state for one in records if b"coupon-expired" in one.state)
    reason = Record("order-new", 2, "order.canceled", body.replace(b"coupon-expired", b"coupon-eaten"))
    created = recorded(HISTORY.facts[:1])[0]
    shipped = Record("order-new", 3, "order.shipped", b"{}")
    new = [created._replace(originator_id="order-new"), reason, shipped]
    damaged = Record("order-broken", 1, "order.created.pending", b'{"user_id":"u1"')
    await record(tmp_path, [*records, *new, damaged], None)

    found = await find(tmp_path, Search(Criteria(), limit=3))

    newest = found.orders[0]
    assert (newest.order_id, newest.status, newest.reason) == ("new", "CANCELED", "coupon-eaten")
    assert found.newer == ["order-new@3 (order.shipped)", "the reason 'coupon-eaten' of order new"]
    assert len(found.damaged) == 1
    assert f"order.created.pending at position {FACTS + 4} cannot be read" in found.damaged[0]


KEPT = [product_reserved(), points_used(), use_of_coupon_voided(), order_canceled("deadline-exceeded")]
OVER = {
    "held": (KEPT, True),
    "back": ([*KEPT, product_released(), points_refunded()], False),
    "refused at once": ([reserve_failed("product-out-of-stock"), order_canceled("product-out-of-stock")], False),
    "refused": (
        [product_reserved(), use_of_points_failed("points-insufficient"), order_canceled("points-insufficient")],
        True,
    ),
    "confirmed": ([*KEPT[:2], coupon_used(), order_confirmed()], False),
}
"""What is recorded of an order after its acceptance; whether something of it is held although it is canceled."""


@pytest.mark.parametrize("older", [False, True], ids=["", "in the streams of older code"])
async def test_canceled_orders_that_keep_something_are_found_by_the_logs_of_all(tmp_path: Path, older: bool) -> None:
    logs: dict[str, list[Record]] = {"order": [], "product": [], "point": [], "coupon": []}
    versions: Counter[str] = Counter()
    for number, (facts, _) in enumerate(OVER.values()):
        for fact in map(partial(structs.replace, order_id=f"o{number}"), [order_created(), *facts]):
            stream = fact.earlier_stream if older else fact.stream
            versions[stream] += 1
            name = NAMES[type(fact)]
            logs[said_by(name)].append(Record(stream, versions[stream], name, encode(fact)))
    for name, records in logs.items():
        path, moved = tmp_path / name / "events.sqlite", moved_facts(service_of(name).aggregates)
        async with SQLiteStore.open(path, service=name) as store:
            await store.insert_events(records)
        async with SQLiteStore.open(path, service=name, moved=moved):
            pass  # what older code recorded is indexed when a service starts

    found = await find(tmp_path, Search(Criteria(status="CANCELED", by="ended", uncompensated=True), counting=True))

    held = [f"o{number}" for number, (_, is_held) in enumerate(OVER.values()) if is_held]
    assert [one.order_id for one in found.orders] == held[::-1]
    assert sum(one.orders for one in found.counts) == len(held)
    owed = {order_id: {one.service: one.says for one in due} for order_id, due in found.owed.items()}
    back = {"product": "product.released", "point": "point.refunded"}
    assert owed == {"o0": back, "o3": {"product": "product.released"}}


# The command ----------------------------------------------------------------------------------------------------------

Sold = tuple[Shop, dict[str, str]]
module = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sold(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sold]:
    """A shop of which nothing runs any more, and the ids of its orders by what became of them."""
    async with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        await shop.register("mug", price=1_000, stock=5)
        await shop.charge("u1", 900)
        await shop.issue("c1", "u1", discount=300)
        ids = {}
        for name, user, points, coupon in (
            ("confirmed", "u1", 100, "c1"),
            ("refused", "u1", 50, "c1"),
            ("poor", "u2", 950, None),
        ):
            answer = await shop.place([("mug", 2)], user=user, points=points, coupon=coupon)
            ids[name] = str(answer.json()["order_id"])
            await shop.until_ended(ids[name], user)
        await shop.until_quiet()
        for name in [*shop.services, "nats"]:
            await shop.kill(name)
        yield shop, ids


def short(found: dict[str, Any], ids: dict[str, str]) -> list[tuple[object, ...]]:
    names = {order_id: name for name, order_id in ids.items()}
    return [(names[one["order_id"]], one["status"], one["reason"]) for one in found["orders"]]


@module
async def test_what_was_canceled_and_why_with_everything_down(sold: Sold) -> None:
    shop, ids = sold

    found = await told(shop, "find", "--end", "canceled", "--since", "-10m", "--count")

    assert short(found, ids) == [
        ("poor", "CANCELED", "points-insufficient"),
        ("refused", "CANCELED", "coupon-already-used"),
    ]
    assert found["counts"] == [
        {"status": "CANCELED", "reason": "points-insufficient", "orders": 1},
        {"status": "CANCELED", "reason": "coupon-already-used", "orders": 1},
    ]
    assert (found["why"], found["next"], found["notes"]) == (None, None, [])


@module
async def test_by_each_of_what_an_order_has(sold: Sold) -> None:
    shop, ids = sold

    async def names(*arguments: str) -> list[object]:
        return [name for name, *_ in short(await told(shop, "find", *arguments), ids)]

    assert await names() == await names("--product", "mug") == ["poor", "refused", "confirmed"]
    assert await names("--user", "u1") == await names("--coupon", "c1") == ["refused", "confirmed"]
    assert await names("--end", "confirmed") == ["confirmed"]
    assert await names("--reason", "points-insufficient") == ["poor"]
    first = await told(shop, "find", "--limit", "1")
    assert await names("--limit", "1", "--after", str(first["next"])) == ["refused"]


@module
async def test_a_person_reads_counts_a_table_and_how_to_go_on(sold: Sold) -> None:
    shop, ids = sold

    done = await orders(shop, "find", "--count", "--limit", "2")

    lines = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()]
    assert lines[0] == ["3 orders:"]
    assert lines[3:5] == [["1 confirmed"], ["placed (UTC)", "order", "user", "end", "due", "wanted"]]
    assert lines[5][1:] == [ids["poor"], "u2", "canceled, points-insufficient", "2 x mug, 950 points"]
    assert lines[6][1:] == [
        *(ids["refused"], "u1", "canceled, coupon-already-used"),
        "2 x mug, 50 points, coupon c1",
    ]
    assert done.stdout.splitlines()[-1].startswith("older ones: the same with --after ")


@module
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--user", "nobody"), "point_svc has never recorded anything about the user nobody"),
        (("--user", "u2", "--end", "confirmed"), "none that fits is in positions 1 to 6 of order_svc's log, from "),
        (("--product", "mugg"), "product_svc has never recorded anything about the product mugg"),
        (("--coupon", "c2"), "coupon_svc has never recorded anything about the coupon c2"),
        (("--since", "9999-01-01"), "nothing is recorded since then"),
        (("--until", "2001-01-01"), "order_svc's log begins at "),
        (("--uncompensated",), "none that fits is in positions 1 to 6 of order_svc's log, from "),
        (("--reason", "coupon-expired"), "none that fits is in positions 1 to 6 of order_svc's log, from "),
    ],
)
async def test_it_says_why_nothing_was_found(sold: Sold, arguments: tuple[str, ...], why: str) -> None:
    shop, _ = sold

    done = await orders(shop, "find", *arguments)
    as_json = await orders(shop, "find", *arguments, "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert "no order was found: " in done.stderr
    assert why in done.stderr
    assert as_json.returncode == 1
    assert why in as_json.stdout


async def test_what_a_canceled_order_still_keeps_leads_to_its_name(shop: Shop) -> None:
    shop.env |= {"ORDER_WAIT_S": "0.2", "ORDER_DEADLINE_S": "0.5"}
    await shop.stop("order")
    await shop.start("order")
    await shop.register("mug")
    await shop.stop("point")
    order_id = (await shop.place([("mug", 1)], points=1)).json()["order_id"]

    async for _ in attempts("the order to be canceled"):
        done = await orders(shop, "find", "--uncompensated", "--json")
        if done.returncode == 0:
            break
    assert [one["order_id"] for one in json.loads(done.stdout)["orders"]] == [order_id]
    await shop.start("point")
    await shop.until_quiet()
    done = await orders(shop, "find", "--uncompensated")
    assert (done.returncode, done.stdout) == (1, "")
    pending = await orders(shop, "find", "--uncompensated", "--end", "pending")
    assert pending.returncode == 2
    assert "--uncompensated is of canceled orders" in pending.stderr


@module
async def test_a_log_that_is_not_there_is_no_empty_answer(sold: Sold, tmp_path: Path) -> None:
    shop, _ = sold

    nowhere = await orders(shop, "find", DATA_DIR=str(tmp_path))

    assert nowhere.returncode == 3
    assert "the log of order_svc cannot be read" in nowhere.stderr
