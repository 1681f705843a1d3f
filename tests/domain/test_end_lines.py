"""The fields of the line that each end of an order leaves in the log."""

from contracts.wire import NAMES, encode
from infra.core.unit_of_work import Outcome
from infra.store.records import Record
from order_svc.domain import NoSuchOrder
from order_svc.end_lines import ends
from tests.examples import CAUSE, ORDER_ID, order_canceled, order_confirmed, order_created


def test_ends_are_found_among_all_facts_of_a_batch_each_with_its_record() -> None:
    facts = [order_created(), order_confirmed(), order_canceled("customer-canceled", cause=None)]
    records = [Record(f"order-{ORDER_ID}", n, NAMES[type(fact)], encode(fact)) for n, fact in enumerate(facts, 1)]
    outcomes: list[Outcome] = [NoSuchOrder(), facts[:1], [], facts[1:]]

    assert [*ends(outcomes, records)] == [
        {
            "order_id": ORDER_ID,
            "fact_id": f"order-{ORDER_ID}@2",
            "end": "confirmed",
            "after_ms": 2_000.0,
            "cause": CAUSE,
        },
        {
            "order_id": ORDER_ID,
            "fact_id": f"order-{ORDER_ID}@3",
            "end": "canceled",
            "after_ms": 2_000.0,
            "reason": "customer-canceled",
        },
    ]


def test_a_batch_without_an_end_leaves_no_line() -> None:
    record = Record(f"order-{ORDER_ID}", 1, "order.created.pending", b"")

    assert [*ends([[order_created()]], [record])] == []
    assert [*ends([], [])] == []
