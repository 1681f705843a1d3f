"""Searches order_svc's log for orders, the newest first."""

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from contracts.fact import REASONS
from contracts.spans import CANCELED
from contracts.wire import fact_id
from infra.store.records import Notification
from ops import stores
from ops.find.compensations import StepLogs, step_logs
from ops.find.criteria import ENDS, Criteria, FoundOrder, found_order
from ops.find.listed import Listed, listed
from ops.find.span import LogSpan, span
from ops.progress import Watch
from ops.stores import ServiceLog
from ops.waits import Due

FIRST_PART: Final = 1_000
LARGEST_PART: Final = 32_000
"""Positions of the log that are read at once: a read transaction of some hundredths of a second."""
BATCH: Final = 500  # orders whose later facts are read at once
VERSIONS: Final = 3
"""The most facts of an order in order_svc's log: accepted, confirmed, canceled."""

T = TypeVar("T")


class Search(NamedTuple):
    """How to search. `before`: only orders whose `position` is less; None: all. `limit`: return at most this many.

    `counting`: also count, by status and reason, all orders that fit and are below `before`, on later pages, too.
    `whole`: read all of the log below `before`; use neither the order list nor a search for the positions of times.
    """

    criteria: Criteria
    before: int | None = None
    limit: int = 50
    counting: bool = False
    whole: bool = False


class OrderCount(NamedTuple):
    """How many of the orders have this status and this reason; `reason` None: they are not canceled."""

    status: str
    reason: str | None
    orders: int


class FoundOrders(NamedTuple):
    """What was found. `following`: the value of `before` for the next page; None: this page is the last.

    `counts`: of all orders that fit, on this page and on later ones; empty without `counting`. `within`: the part of
    the log in which orders that fit could be; `last`: the log's last position. `notes`: texts for the person who
    searches. `newer`: texts about what only newer code knows. `damaged`: texts about facts that cannot be read.
    """

    orders: list[FoundOrder]
    following: int | None
    counts: list[OrderCount]
    within: LogSpan
    last: int
    notes: list[str]
    newer: list[str]
    damaged: list[str]
    owed: Mapping[str, Sequence[Due]] = {}
    """Order id → the answers that services owe the order; empty unless `uncompensated` is asked for."""


async def search(env: Mapping[str, str], asked: Search, watch: Watch) -> FoundOrders:
    """Find the orders that are asked for in order_svc's log, the newest first. Raises SettingsError, Unreachable."""
    criteria = asked.criteria
    async with contextlib.AsyncExitStack() as stack:
        log = await stack.enter_async_context(stores.log(env, "order"))
        steps = await stack.enter_async_context(step_logs(env)) if criteria.uncompensated else None
        last = await log.max_notification_id()
        within = LogSpan(0, last) if asked.whole else await span(log, last, criteria.since, criteria.until)
        if asked.before is not None:
            within = within._replace(until=min(within.until, asked.before - 1))
        known = Listed() if asked.whole else await listed(env, criteria)
        found = _Found(asked, [known.trouble] if known.trouble else [])
        async with contextlib.aclosing(_records(log, criteria, within, known, watch)) as batches:
            async for records, newest_first in batches:
                await _judge(log, steps, records, found)
                if newest_first and found.enough:
                    break
        orders = found.newest[: asked.limit]
        owed = {} if steps is None else {one.order_id: await steps.due(one.order_id) for one in orders}
    following = orders[-1].position if orders and len(found.newest) > asked.limit else None
    counts = [OrderCount(*key, number) for key, number in found.counts.most_common()]
    return FoundOrders(orders, following, counts, within, last, found.notes, found.newer, found.damaged, owed)


class _Found:
    """Gathers what a search finds: the newest orders, up to one more than the limit.

    With `counting`, also how many there are of each (status, reason).
    """

    def __init__(self, asked: Search, notes: list[str]) -> None:
        self._asked = asked
        self.newest: list[FoundOrder] = []
        self.counts: Counter[tuple[str, str | None]] = Counter()
        self.notes = notes
        self.newer: list[str] = []
        self.damaged: list[str] = []

    @property
    def enough(self) -> bool:
        """Whether a search that reads the newest facts first may stop: it has a page and more, and counts none."""
        return len(self.newest) > self._asked.limit and not self._asked.counting

    def fits(self, order: FoundOrder) -> bool:
        return self._asked.criteria.fits(order)

    def take(self, order: FoundOrder) -> None:
        self.newest.append(order)
        if order.reason is not None and order.reason not in REASONS:
            self.newer.append(f"the reason {order.reason!a} of order {order.order_id}")
        if self._asked.counting:
            self.counts[order.status, order.reason] += 1

    def cut(self) -> None:
        """Keep only the newest orders (by `position`, the highest first), one more than the limit; the counts stay."""
        self.newest.sort(key=lambda order: -order.position)
        del self.newest[self._asked.limit + 1 :]


async def _records(
    log: ServiceLog, criteria: Criteria, within: LogSpan, known: Listed, watch: Watch
) -> AsyncGenerator[tuple[Sequence[Notification], bool]]:
    """Yield (facts that may be of orders that fit, whether they come newest first), batch by batch.

    First come facts that the order list has not read yet, the newest first: True. Then those of the orders that the
    list has, in any order: False.
    """
    after, until = max(within.after, known.checkpoint), within.until
    watch.begins("looking through the log", max(0, until - after))
    positions = FIRST_PART
    while until > after:
        least = max(after, until - positions)
        records = await log.select_newest(least, until, criteria.topics, criteria.containing)
        for batch in _batches(records):
            yield batch, True
        watch.advances(until - least)
        until, positions = least, min(2 * positions, LARGEST_PART)
    watch.begins("looking at the orders of the list", len(known.order_ids))
    until = min(within.until, known.checkpoint)
    for ids in _batches(known.order_ids):
        wanted = [(f"order-{order_id}", version) for order_id in ids for version in range(1, VERSIONS + 1)]
        facts = [one for one in await log.find_all(wanted) if one.topic in criteria.topics]
        yield [one for one in facts if within.after < one.position <= until], False
        watch.advances(len(ids))


async def _judge(log: ServiceLog, steps: StepLogs | None, records: Sequence[Notification], found: _Found) -> None:
    """Read the later facts of the orders of `records`, and gather the orders that fit in `found`.

    `steps`: gather only orders that are not compensated by these logs; None: compensated ones, too.
    """
    wanted = [
        (one.originator_id, version)
        for one in records
        if one.topic != CANCELED
        for version in range(one.originator_version + 1, VERSIONS + 1)
    ]
    later: dict[str, list[Notification]] = {}
    for one in sorted(await log.find_all(wanted) if wanted else ()):
        later.setdefault(one.originator_id, []).append(one)
        if one.topic not in ENDS:
            found.newer.append(f"{fact_id(one.originator_id, one.originator_version)} ({one.topic})")
    fitting = []
    for record in records:
        of_order = later.get(record.originator_id, ())
        try:
            order = found_order(record, [one for one in of_order if one.position > record.position])
        except ValueError as error:
            found.damaged.append(str(error))
            continue
        if order is not None and found.fits(order):
            fitting.append(order)
    for order in fitting if steps is None else await steps.not_compensated(fitting):
        found.take(order)
    found.cut()


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]
