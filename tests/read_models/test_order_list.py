"""The order list alone: what the facts make of it, however they are portioned, and what a page of it has."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import json

import order_svc.domain as ordering
from contracts import REASONS, Fact, Line, OrderCanceled, OrderConfirmed, Reason
from contracts.wire import NAMES, decode, encode
from infra.store.records import Notification
from infra.timestamps import EPOCH, instant, microseconds
from order_svc.domain import Status
from order_svc.listing import LEFT_OPEN, Listing, ListRow, PageKey, Query, of_all, of_customer
from tests.domain.plan import PRICES, Plan, run
from tests.domain.test_any_order import PLANS, REPEATABLE
from tests.domain.world import SECOND, Wish
from tests.examples import (
    COUPON,
    CUSTOMER,
    DEADLINE,
    DISCOUNT,
    MUGS_AND_TEA,
    NOW,
    ORDER,
    ORDER_ID,
    OTHER_ID,
    PLACED_AT,
    order_canceled,
    order_confirmed,
    order_created,
    points_used,
    with_amounts,
)

LATER = NOW + timedelta(hours=1)

PLACED = ListRow(
    placed_at=microseconds(PLACED_AT),
    order_id=ORDER_ID,
    user_id=CUSTOMER,
    deadline=microseconds(DEADLINE),
    points=500,
    coupon_id=COUPON,
    lines=b'[{"product_id":"mug","quantity":2}]',
    status="PENDING",
    reason=None,
    ended_at=None,
    total=None,
    discount=None,
    amount_due=None,
    unit_prices=None,
)
CONFIRMED = PLACED._replace(
    status="CONFIRMED",
    ended_at=microseconds(NOW),
    total=20_000,
    discount=DISCOUNT,
    amount_due=19_200,
    unit_prices=b"[10000]",
)


@contextlib.contextmanager
def empty_list() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:")) as file:
        file.executescript(Listing.tables)
        yield file


def apply(file: sqlite3.Connection, records: Sequence[Notification]) -> None:
    for sql, rows in Listing().apply(records):
        file.executemany(sql, rows)


def rows(file: sqlite3.Connection) -> list[ListRow]:
    return [ListRow(*row) for row in file.execute("SELECT * FROM orders ORDER BY order_id")]


def recorded(*facts: Fact) -> list[Notification]:
    """The log of these facts."""
    versions: dict[str, Iterator[int]] = {}
    return [
        Notification(position, fact.stream, next(versions.setdefault(fact.stream, count(1))), NAMES[type(fact)], body)
        for position, (fact, body) in enumerate(((fact, encode(fact)) for fact in facts), 1)
    ]


def listed(*facts: Fact) -> list[ListRow]:
    """What the facts make, recorded together; the same, recorded one after another."""
    with empty_list() as at_once, empty_list() as one_by_one:
        apply(at_once, recorded(*facts))
        for record in recorded(*facts):
            apply(one_by_one, [record])
        assert rows(at_once) == rows(one_by_one)
        return rows(at_once)


# What the facts make --------------------------------------------------------------------------------------------------


def test_an_order_that_was_placed_is_pending_with_what_was_asked_for() -> None:
    assert listed(order_created()) == [PLACED]


def test_a_confirmed_order_has_its_amounts() -> None:
    assert listed(order_created(), order_confirmed()) == [CONFIRMED]


@pytest.mark.parametrize("reason", REASONS)
def test_a_canceled_order_has_its_reason_and_no_amounts_that_nobody_said(reason: Reason) -> None:
    canceled = PLACED._replace(status="CANCELED", reason=reason, ended_at=microseconds(NOW))

    assert listed(order_created(), order_canceled(reason)) == [canceled]


def test_an_order_canceled_after_it_was_priced_has_what_was_known() -> None:
    refused = with_amounts(order_canceled("coupon-expired"), points_used())

    (row,) = listed(order_created(), refused)

    assert (row.total, row.unit_prices, row.discount, row.amount_due) == (20_000, b"[10000]", None, None)


@pytest.mark.parametrize("says_amounts", [True, False], ids=["with amounts", "from before cancels had amounts"])
def test_a_confirmed_order_that_is_canceled_keeps_its_amounts(says_amounts: bool) -> None:
    canceled = order_canceled("customer-canceled", at=LATER)
    if says_amounts:
        canceled = with_amounts(canceled, order_confirmed())

    assert listed(order_created(), order_confirmed(), canceled) == [
        CONFIRMED._replace(status="CANCELED", reason="customer-canceled", ended_at=microseconds(LATER))
    ]


def test_orders_of_the_same_instant_are_kept_apart() -> None:
    first, second = listed(order_created(), order_created(order_id=OTHER_ID), order_confirmed(order_id=OTHER_ID))

    assert (first, second) == (PLACED, CONFIRMED._replace(order_id=OTHER_ID))


def test_lines_and_prices_stand_in_the_same_order() -> None:
    (row,) = listed(order_created(MUGS_AND_TEA), order_confirmed(MUGS_AND_TEA))

    assert [line["product_id"] for line in json.decode(row.lines)] == ["mug", "tea"]
    assert json.decode(row.unit_prices or b"") == [10_000, 3_000]


def test_an_order_that_ends_in_the_portion_in_which_it_was_placed_is_written_once() -> None:
    ((_, inserted), (_, updated)) = Listing().apply(recorded(order_created(), order_confirmed()))

    assert (inserted, updated) == ([tuple(CONFIRMED)], [])


def test_a_fact_from_newer_code_is_read_all_the_same() -> None:
    (record,) = recorded(order_created())
    newer = record._replace(state=record.state[:-1] + b',"gift":{"wrapped":true}}')

    with empty_list() as file:
        apply(file, [newer])
        assert rows(file) == [PLACED]


@pytest.mark.parametrize(
    "at",
    [EPOCH, PLACED_AT, PLACED_AT + timedelta(microseconds=1), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)],
    ids=str,
)
def test_an_instant_is_kept_to_the_microsecond(at: datetime) -> None:
    assert instant(microseconds(at)) == at


# However the log is portioned -----------------------------------------------------------------------------------------


def as_decided(records: Sequence[Notification]) -> list[ListRow]:
    """The rows, from what order_svc itself makes of its log."""
    states: dict[str, ordering.State] = {}
    ended_at: dict[str, int] = {}
    for record in records:
        fact = decode(record.state)
        ordering.evolve(states.setdefault(record.originator_id, ordering.State()), fact)  # type: ignore[arg-type]
        if isinstance(fact, OrderConfirmed | OrderCanceled):
            ended_at[record.originator_id] = microseconds(fact.at)
    return sorted((_row(stream, state, ended_at.get(stream)) for stream, state in states.items()), key=_id)


def _id(row: ListRow) -> str:
    return row.order_id


def _row(stream: str, state: ordering.State, ended_at: int | None) -> ListRow:
    order, end = state.order, state.first_end
    assert order is not None
    assert state.deadline is not None
    assert state.status is not None
    prices = end.unit_prices if end else None
    return ListRow(
        placed_at=microseconds(order.placed_at),
        order_id=stream.removeprefix("order-"),
        user_id=order.user_id,
        deadline=microseconds(state.deadline),
        points=order.points,
        coupon_id=order.coupon_id,
        lines=json.encode(order.lines),
        status=state.status,
        reason=state.reason,
        ended_at=ended_at,
        total=end.total if end else None,
        discount=end.discount if end else None,
        amount_due=end.amount_due if isinstance(end, OrderConfirmed) else None,
        unit_prices=None if prices is None else json.encode(prices),
    )


TOO_MANY_POINTS = Plan(
    stock=dict.fromkeys(PRICES, 9),
    balances={"one": 1},
    wishes=[Wish("one", (Line("wine", 3),), 2, None, 90 * SECOND)],
    steps=[],
    newest_first=False,
)
"""What generated plans come by rarely."""


def test_any_history_in_portions_of_any_size_gives_the_orders_as_they_were_decided() -> None:
    seen: set[tuple[str, str | None, bool]] = set()

    @example(TOO_MANY_POINTS, set(), [1], 1.0)
    @settings(REPEATABLE, max_examples=300)
    @given(PLANS, st.sets(st.integers(0, 7)), st.lists(st.integers(1, 6), min_size=1, max_size=6), st.floats(0, 1))
    def any_history(plan: Plan, unwanted: set[int], sizes: list[int], until: float) -> None:
        world = run(plan)
        for number in unwanted:
            world.cancel(number)
        log = [Notification(position, *record) for position, record in enumerate(world.ordering.log, 1)]
        log = log[: round(until * len(log))]
        with empty_list() as file:
            size = cycle(sizes)
            at = 0
            while at < len(log):
                portion = log[at : at + next(size)]
                apply(file, portion)
                at += len(portion)
            found = rows(file)
            assert found == as_decided(log)
            assert {order_id for order_id, _ in file.execute(LEFT_OPEN)} == {
                row.order_id for row in found if row.status == "PENDING"
            }
        seen.update((row.status, row.reason, row.amount_due is not None) for row in found)

    any_history()
    assert seen >= {("PENDING", None, False), ("CONFIRMED", None, True), ("CANCELED", "customer-canceled", True)}
    assert {reason for _, reason, _ in seen} >= {"deadline-exceeded", "product-unknown", "points-insufficient"}


# Pages ----------------------------------------------------------------------------------------------------------------

STATUSES: tuple[Status, ...] = get_args(Status)
ROWS = st.builds(
    PLACED._replace,
    placed_at=st.integers(0, 6),  # so few that many orders share an instant
    order_id=st.text("abcAB-_09", min_size=1, max_size=3),
    user_id=st.sampled_from(["ann", "bob"]),
    status=st.sampled_from(STATUSES),
)


def insert(file: sqlite3.Connection, added: Sequence[ListRow]) -> None:
    file.executemany(f"INSERT OR IGNORE INTO orders VALUES ({', '.join('?' * len(ListRow._fields))})", added)


@settings(REPEATABLE, max_examples=300)
@given(
    st.lists(ROWS, max_size=25, unique_by=_id),
    st.lists(st.lists(ROWS, max_size=4), max_size=8),
    st.integers(1, 7),
    st.none() | st.sampled_from(STATUSES),
    st.sampled_from(["ann", None]),
)
def test_pages_have_every_order_there_was_once_and_in_order_whatever_is_placed_meanwhile(
    before: list[ListRow], meanwhile: list[list[ListRow]], limit: int, status: Status | None, user: str | None
) -> None:
    """Also when a clock was set back, and new orders come to stand among the old."""
    with empty_list() as file:
        insert(file, before)
        found: list[ListRow] = []
        last: PageKey | None = None
        between = iter(meanwhile)
        while True:
            query = of_customer(user, status, last, limit) if user else of_all(status, None, last, limit)
            page = [ListRow(*row) for row in file.execute(*query)]
            if not page:
                break
            assert len(page) <= limit
            assert not set(page) & set(found)
            found += page
            last = PageKey(page[-1].placed_at, page[-1].order_id)
            insert(file, next(between, []))

    spots = [(row.placed_at, row.order_id) for row in found]
    assert spots == sorted(set(spots), reverse=user is not None)
    assert {(row.placed_at, row.order_id) for row in before if _is_wanted(row, status, user)} <= set(spots)
    assert all(_is_wanted(row, status, user) for row in found)


@settings(REPEATABLE)
@given(
    st.lists(ROWS, max_size=25, unique_by=_id),
    st.integers(1, 7),
    st.none() | st.sampled_from(STATUSES),
    st.sampled_from(["ann", None]),
    st.none() | st.sampled_from(["customer-canceled", "coupon-expired"]),
)
def test_operators_read_the_newest_first_and_those_of_a_customer_or_a_reason(
    rows: list[ListRow], limit: int, status: Status | None, user: str | None, reason: str | None
) -> None:
    with empty_list() as file:
        insert(file, rows)
        found: list[ListRow] = []
        last: PageKey | None = None
        while True:
            query = of_all(status, None, last, limit, newest_first=True, reason=reason, user_id=user)
            page = [ListRow(*row) for row in file.execute(*query)]
            if not page:
                break
            found += page
            last = PageKey(page[-1].placed_at, page[-1].order_id)

    wanted = [row for row in rows if _is_wanted(row, status, user) and reason in (None, row.reason)]
    assert found == sorted(wanted, key=lambda row: (row.placed_at, row.order_id), reverse=True)


@settings(REPEATABLE)
@given(st.lists(ROWS, max_size=25, unique_by=_id), st.randoms(use_true_random=False), st.sampled_from(["ann", None]))
def test_of_the_orders_with_these_keys_those_that_are_canceled_are_read(
    rows: list[ListRow], random: Random, user: str | None
) -> None:
    some = [row for row in rows if random.random() < 0.5]
    with empty_list() as file:
        insert(file, rows)
        keys = [PageKey(row.placed_at, row.order_id) for row in some]
        found = [
            ListRow(*row)
            for row in file.execute(*of_all(None, None, None, 99, user_id=user, among=[*keys, PageKey(0, "unknown")]))
        ]

    wanted = [row for row in some if _is_wanted(row, "CANCELED", user)]
    assert found == sorted(wanted, key=lambda row: (row.placed_at, row.order_id))


@pytest.mark.parametrize("newest_first", [True, False])
def test_orders_with_these_keys_are_looked_up_one_by_one(newest_first: bool) -> None:
    for status in (None, *STATUSES):
        query = of_all(status, None, KEY, 9, newest_first=newest_first, among=[KEY])
        assert "SEARCH orders USING PRIMARY KEY (placed_at=?" in _plan(query)


def _is_wanted(row: ListRow, status: Status | None, user: str | None) -> bool:
    return status in (None, row.status) and user in (None, row.user_id)


def test_orders_are_as_old_as_wanted_to_the_microsecond() -> None:
    with empty_list() as file:
        insert(file, [PLACED._replace(placed_at=microseconds(PLACED_AT) + n, order_id=f"o{n}") for n in (-1, 0, 1)])

        found = [ListRow(*row).order_id for row in file.execute(*of_all(None, PLACED_AT, None, 9))]

    assert found == ["o-1", "o0"]


KEY = PageKey(7, "o7")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        *((of_customer("ann", status, spot, 9), "of_customer") for status in (None, *STATUSES) for spot in (None, KEY)),
        *((of_all("PENDING", at, spot, 9), "pending") for at in (None, NOW) for spot in (None, KEY)),
        *((of_all("CANCELED", at, spot, 9), "canceled") for at in (None, NOW) for spot in (None, KEY)),
        *((of_all("PENDING", None, spot, 9, newest_first=True), "pending") for spot in (None, KEY)),
        *((of_all("CANCELED", None, spot, 9, reason="coupon-expired"), "canceled") for spot in (None, KEY)),
        *((of_all(None, None, spot, 9, newest_first=True, user_id="ann"), "of_customer") for spot in (None, KEY)),
        ((LEFT_OPEN, []), "pending"),
    ],
    ids=str,
)
def test_a_page_is_read_from_where_it_stands_and_is_sorted_already(query: Query, index: str) -> None:
    assert f"INDEX {index}" in _plan(query)
    assert "TEMP B-TREE" not in _plan(query)


@pytest.mark.parametrize("status", [None, "CONFIRMED"])
def test_a_page_of_all_is_read_in_the_order_of_the_table(status: Status | None) -> None:
    assert _plan(of_all(status, NOW, KEY, 9)).startswith("SEARCH orders USING PRIMARY KEY")
    assert _plan(of_all(status, None, None, 9)) == "SCAN orders"


def _plan(query: Query) -> str:
    with empty_list() as file:
        sql, values = query
        return "; ".join(step[-1] for step in file.execute(f"EXPLAIN QUERY PLAN {sql}", values))


def test_the_end_of_an_order_finds_its_row_by_the_primary_key() -> None:
    ((_, _), (update, values)) = Listing().apply(recorded(order_confirmed()))

    assert _plan((update, list(values[0]))) == "SEARCH orders USING PRIMARY KEY (placed_at=? AND order_id=?)"


def test_the_columns_of_the_table_are_those_of_a_row() -> None:
    with empty_list() as file:
        columns: list[Any] = [column[1] for column in file.execute("PRAGMA table_info(orders)")]

    assert columns == list(ListRow._fields)
    assert ORDER.points == PLACED.points
