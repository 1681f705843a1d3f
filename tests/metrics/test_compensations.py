"""Which canceled orders of before the start count as uncompensated, by what stream and archive have of them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from contracts import Fact, OrderCanceled, ProductReleased, ProductReserveFailed
from infra.broker.client import BrokerClient
from infra.broker.stored import StoredMessage
from infra.metrics import Metrics
from infra.timestamps import microseconds
from order_svc import compensations
from order_svc.compensations import Canceled, Compensations
from order_svc.listing import PageKey
from tests.contracts.examples import EXAMPLES

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY = cast(BrokerClient, None)


def example(kind: type[Fact]) -> Fact:
    return next(fact for fact in EXAMPLES if type(fact) is kind)


@pytest.mark.parametrize(
    ("reason", "archived", "uncompensated"),
    [
        ("product-out-of-stock", [ProductReserveFailed], 0),
        ("product-out-of-stock", [], 1),
        ("points-insufficient", [ProductReleased], 1),  # the refusal is nowhere
    ],
)
async def test_an_order_of_before_the_start_counts_by_its_facts_in_the_archive(
    reason: str, archived: Sequence[type[Fact]], uncompensated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def nothing(*_: Any) -> list[StoredMessage]:
        return []

    async def in_archive(order_id: str) -> Iterable[Fact]:
        asked.append(order_id)
        return [example(OrderCanceled), *map(example, archived)]

    monkeypatch.setattr(compensations, "latest_messages", nothing)
    known = Compensations(Metrics())
    known.found({"o1": Canceled(reason, BEFORE, BEFORE, counts=False)})

    for _ in range(3):
        await known.look(NOBODY, ["EVENTS_1"], in_archive)

    assert (len(known), asked) == (uncompensated, ["o1"])
    assert known.keys == [PageKey(microseconds(BEFORE), "o1")] * uncompensated
