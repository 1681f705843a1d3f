"""Popular's counting, without a service: the same tables whatever is repeated, and in whatever order it comes."""

import sqlite3
import weakref
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts import Fact, Line, Order, OrderCanceled, OrderConfirmed, Reason
from contracts.wire import NAMES, encode
from infra.store.records import Notification
from product_svc.popular import RANKING, Popular

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TODAY = Popular("Asia/Seoul").day(NOON)


def confirmed(order_id: str, *lines: tuple[str, int], at: datetime = NOON) -> OrderConfirmed:
    order = Order("u1", tuple(Line(*line) for line in lines), 0, None, at)
    prices = (1,) * len(lines)
    return OrderConfirmed(
        at=at, order_id=order_id, order=order, unit_prices=prices, total=1, points=0, discount=0, amount_due=1
    )


def canceled(order_id: str, reason: Reason = "customer-canceled") -> OrderCanceled:
    return OrderCanceled(at=NOON, order_id=order_id, order=Order("u1", (), 0, None, NOON), reason=reason)


class Counted:
    """The projection's tables in memory."""

    def __init__(self, *chunks: Sequence[Fact], zone: str = "Asia/Seoul") -> None:
        self._popular = Popular(zone)
        self._tables = sqlite3.connect(":memory:")
        weakref.finalize(self, self._tables.close)
        self._tables.executescript(self._popular.tables)
        for chunk in chunks:
            self.apply(chunk)

    def apply(self, facts: Sequence[Fact]) -> None:
        records = [Notification(0, fact.stream, 1, NAMES[type(fact)], encode(fact)) for fact in facts]
        for sql, rows in self._popular.apply(records):
            self._tables.executemany(sql, rows)

    def everything(self) -> list[list[Any]]:
        return [
            self._tables.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()
            for name in ("sold", "taken_back", "daily")
        ]

    def ranking(self, days: int = 3, limit: int = 5) -> list[tuple[str, int]]:
        return [(row[0], row[1]) for row in self._tables.execute(RANKING, (TODAY - days + 1, TODAY, limit))]


def test_the_pieces_of_an_order_count_on_its_day() -> None:
    counted = Counted([confirmed("o1", ("mug", 2), ("tea", 1)), confirmed("o2", ("mug", 1))])

    assert counted.ranking() == [("mug", 3), ("tea", 1)]


def test_late_and_replayed_facts_land_on_their_own_day() -> None:
    counted = Counted([confirmed("o1", ("mug", 1))])
    counted.apply([confirmed("o0", ("mug", 5), at=NOON - timedelta(days=3)), confirmed("o1", ("mug", 1))])

    assert counted.ranking(days=3) == [("mug", 1)]
    assert counted.ranking(days=4) == [("mug", 6)]


def test_a_day_begins_at_the_shops_midnight() -> None:
    before_midnight_in_seoul = datetime(2026, 2, 28, 14, 59, 59, tzinfo=UTC)
    counted = Counted(
        [
            confirmed("o1", ("late", 1), at=before_midnight_in_seoul),
            confirmed("o2", ("early", 1), at=before_midnight_in_seoul + timedelta(seconds=1)),
        ]
    )

    assert counted.ranking(days=1) == [("early", 1)]
    assert counted.ranking(days=2) == [("early", 1), ("late", 1)]


def test_equals_are_ranked_by_their_newest_sale_that_still_counts() -> None:
    later = NOON + timedelta(seconds=1)
    counted = Counted([confirmed("o1", ("mug", 1)), confirmed("o2", ("tea", 1), at=later)])
    assert counted.ranking() == [("tea", 1), ("mug", 1)]

    counted.apply([confirmed("o3", ("mug", 1), at=later + timedelta(seconds=1)), confirmed("o4", ("tea", 1))])
    assert counted.ranking() == [("mug", 2), ("tea", 2)]

    counted.apply([canceled("o3"), canceled("o4")])
    assert counted.ranking() == [("tea", 1), ("mug", 1)]


def test_a_cancel_takes_back_and_may_come_first() -> None:
    after, before = Counted([confirmed("o1", ("mug", 1))], [canceled("o1")]), Counted([canceled("o1")])
    before.apply([confirmed("o1", ("mug", 1))])

    assert after.ranking() == before.ranking() == []
    assert after.everything() == before.everything()


def test_an_order_that_was_refused_was_never_counted() -> None:
    counted = Counted([canceled("o1", "points-insufficient"), canceled("o2", "deadline-exceeded")])

    assert counted.everything() == [[], [], []]


orders = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(["mug", "tea", "pot"]), st.integers(1, 9)), min_size=1, max_size=3),
        st.integers(0, 5),
        st.booleans(),
    ),
    max_size=8,
)


@given(orders, st.randoms(use_true_random=False), st.integers(1, 10))
def test_any_order_repeats_and_chunks_give_the_same(
    placed: list[tuple[list[tuple[str, int]], int, bool]], random: Any, chunk: int
) -> None:
    facts: list[Fact] = []
    expected: Counter[str] = Counter()
    for number, (lines, days_ago, taken_back) in enumerate(placed):
        bought = dict(lines)
        facts.append(confirmed(f"o{number}", *bought.items(), at=NOON - timedelta(days=days_ago)))
        if taken_back:
            facts.append(canceled(f"o{number}"))
        elif days_ago < 3:
            expected.update(bought)
    shuffled = facts + random.sample(facts, len(facts) // 2)
    random.shuffle(shuffled)

    counted = Counted(*(shuffled[n : n + chunk] for n in range(0, len(shuffled), chunk)))

    assert counted.everything() == Counted(facts).everything()
    assert dict(counted.ranking()) == dict(expected)
