"""Logs a line for each end of an order: how it ended, why, after how long, by which fact, and what led to it."""

from collections.abc import Iterator, Sequence

from contracts import Fact, OrderCanceled, OrderConfirmed
from contracts.wire import fact_id
from infra.core.unit_of_work import Commands, Outcome
from infra.process.logging import info_lines
from infra.process.runtime import Runtime
from infra.store.records import Record

EVENT = "order ended"


def end_lines(runtime: Runtime) -> None:
    """Have a line logged for each end in a recorded batch, once its requests are answered.

    A batch whose append failed gets its lines once it turns out to be recorded. Nothing is logged if the level of the
    log is above INFO.
    """
    put = info_lines(EVENT)
    if put is None:
        return

    def recorded(_: Commands, outcomes: Sequence[Outcome], records: Sequence[Record]) -> None:
        if lines := [*ends(outcomes, records)]:
            put(lines)

    runtime.writer.on_settled.append(recorded)


def ends(outcomes: Sequence[Outcome], records: Sequence[Record]) -> Iterator[dict[str, str | float]]:
    """Yield the fields of a line for each fact of a batch that confirms or cancels an order.

    `records` are those of all facts in `outcomes`, in the same order.
    """
    facts: Iterator[Fact] = (fact for one in outcomes if not isinstance(one, Exception) for fact in one)
    for fact, record in zip(facts, records, strict=True):
        if isinstance(fact, OrderConfirmed | OrderCanceled):
            line: dict[str, str | float] = {
                "order_id": fact.order_id,
                "fact_id": fact_id(record.originator_id, record.originator_version),
                "end": "confirmed" if isinstance(fact, OrderConfirmed) else "canceled",
                "after_ms": round((fact.at - fact.order.placed_at).total_seconds() * 1_000, 1),
            }
            if isinstance(fact, OrderCanceled):
                line["reason"] = fact.reason
            if fact.cause is not None:
                line["cause"] = fact.cause
            yield line
