"""Finds which canceled orders are not compensated: by what all services that an order reaches have recorded of it."""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from contracts.step import fact_name
from contracts.wire import STEPS
from ops import stores
from ops.at import kinds
from ops.find.criteria import FoundOrder
from ops.flow.command import parts
from ops.seen_facts import causal, logged_facts
from ops.stores import ServiceLog
from ops.waits import Due, due
from order_svc.compensation import compensated
from order_svc.compensations import REFUSED_BY

SAID: Final[Mapping[str, Collection[str]]] = {
    step.service: {fact_name(fact) for fact in step.says} for step in (*STEPS.awaited, *STEPS.following)
}
"""Service → the names of its facts that tell what it took of an order and gave back."""
VERSIONS: Final = 2
"""How many facts a service records in its stream of one order if it answers and takes that back."""


class _Step(NamedTuple):
    """The log of a service with a step, and the categories of its streams, those of other things than orders included.

    `said`: the names of its facts that tell what it took of an order and gave back.
    """

    log: ServiceLog
    said: Collection[str]
    categories: Sequence[str]

    def streams(self, order_id: str) -> Iterator[str]:
        return (f"{category}-{order_id}" for category in self.categories)


class StepLogs:
    """The logs of order_svc and of the services with a step: their facts tell whether an order is compensated."""

    def __init__(self, orders: ServiceLog, steps: Sequence[_Step]) -> None:
        """Used by `step_logs` only."""
        self._orders = orders
        self._steps = steps
        self._parts = parts()

    async def not_compensated(self, canceled: Sequence[FoundOrder]) -> list[FoundOrder]:
        """Return those of `canceled`, in their order, of which a step has not given back all. Raises Unreachable."""
        open_orders = [one for one in canceled if not _is_over(one, {REFUSED_BY.get(one.reason or "", "")})]
        facts = await self._facts([one.order_id for one in open_orders])
        kept = [one for one in open_orders if not _is_over(one, facts[one.order_id])]
        return [one for one in kept if not _is_over(one, await self._all_facts(one.order_id))]

    async def due(self, order_id: str) -> list[Due]:
        """Return the answers that services owe this order. Raises Unreachable."""
        found = await logged_facts(self._orders, [f"order-{order_id}"])
        for step in self._steps:
            found += await logged_facts(step.log, list(step.streams(order_id)))
        return due(causal(found), self._parts)

    async def _facts(self, order_ids: Sequence[str]) -> Mapping[str, Collection[str]]:
        """Return for each order id the names of the steps' facts (`said`) in the order's own streams.

        Only the first VERSIONS (2) versions of each stream are read.
        """
        found: dict[str, set[str]] = {order_id: set() for order_id in order_ids}
        for step in self._steps:
            whose = {stream: order_id for order_id in order_ids for stream in step.streams(order_id)}
            wanted = [(stream, version) for stream in whose for version in range(1, VERSIONS + 1)]
            for record in await step.log.find_all(wanted):
                if record.topic in step.said:
                    found[whose[record.originator_id]].add(record.topic)
        return found

    async def _all_facts(self, order_id: str) -> Collection[str]:
        """Return the names of the steps' facts (`said`) of the order, also of those in streams that older code used."""
        return {
            record.topic
            for step in self._steps
            for stream in step.streams(order_id)
            for record in await step.log.select_stream(stream)
            if record.topic in step.said
        }


def _is_over(order: FoundOrder, facts: Collection[str]) -> bool:
    return compensated(order.reason, facts)  # type: ignore[arg-type]  # newer code may have other reasons


@contextlib.asynccontextmanager
async def step_logs(env: Mapping[str, str]) -> AsyncIterator[StepLogs]:
    """Open the logs of order_svc and of all services with a step; close them at the block's end.

    Raises SettingsError, and Unreachable if one cannot be read.
    """
    async with contextlib.AsyncExitStack() as stack:
        orders, steps = await stack.enter_async_context(stores.log(env, "order")), []
        for service, said in SAID.items():
            log = await stack.enter_async_context(stores.log(env, service))
            steps.append(_Step(log, said, [kind.category for kind in kinds().values() if kind.service == service]))
        yield StepLogs(orders, steps)
