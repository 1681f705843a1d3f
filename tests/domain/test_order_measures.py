"""What order_svc knows of its orders for the metrics: those of before its start, too, and never more than a bound."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from contracts import Fact, OrderCanceled, OrderConfirmed, OrderCreatedPending
from infra.http.durations import RequestDurations
from infra.metrics import Metrics
from infra.read_models.errors import ViewBehind
from infra.timestamps import microseconds
from order_svc import compensations
from order_svc.compensations import Compensations
from order_svc.listing import PENDING_SINCE, Listing
from order_svc.measures import OrderMeasures
from tests.contracts.examples import WRITTEN
from tests.infra.purse import NOON
from tests.metrics import exposed, value


class Orders:
    """The list of orders: `meanwhile` happens while it is read."""

    def __init__(self) -> None:
        self.pending: list[Any] | None = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def select(self, sql: str, *_: Any) -> list[Any]:
        if self.pending is None:
            raise ViewBehind("damaged")
        self.meanwhile()
        return self.pending if sql == PENDING_SINCE else []


class Shop:
    def __init__(self) -> None:
        self.metrics, self.orders = Metrics(), Orders()
        runtime: Any = SimpleNamespace(
            metrics=self.metrics,
            on_recorded=[],
            tasks=[],
            clock=lambda: NOON,
            requests=RequestDurations(self.metrics),
            views={Listing.name: self.orders},
        )
        self.compensations = Compensations(self.metrics)
        self.measures = OrderMeasures(runtime, self.compensations)

    def told(self, name: str) -> float:
        return value(exposed(self.metrics), name)


def fact(kind: type[Fact], order_id: str, **fields: Any) -> Any:
    return replace(next(one for one in WRITTEN if type(one) is kind), order_id=order_id, **fields)


async def test_an_order_that_ends_while_the_list_is_read_does_not_wait() -> None:
    shop = Shop()
    shop.orders.pending = [(order_id, microseconds(NOON - timedelta(seconds=9))) for order_id in ("old", "ends")]
    shop.measures.recorded([fact(OrderCreatedPending, "new", at=NOON)])
    shop.orders.meanwhile = lambda: shop.measures.recorded([fact(OrderConfirmed, "ends", at=NOON)])

    await shop.measures._find_left_open()

    assert shop.told("saga_orders_pending") == 2
    assert shop.told("saga_oldest_pending_order_age_seconds") == 9


async def test_a_list_that_cannot_be_read_makes_the_process_remember_no_ended_orders() -> None:
    shop = Shop()
    shop.orders.pending = None
    for n in range(3):
        with pytest.raises(ViewBehind):
            await shop.measures._find_left_open()
        shop.measures.recorded([fact(OrderConfirmed, f"{n}", at=NOON)])

    assert not shop.measures._ended_meanwhile


def test_orders_that_nobody_can_look_up_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compensations, "MOST_OPEN", 3)
    shop = Shop()
    for n in range(5):
        canceled = fact(OrderCanceled, f"{n}", at=NOON - timedelta(seconds=9 - n), reason="deadline-exceeded")
        shop.measures.recorded([canceled])

    assert shop.told("saga_orders_uncompensated") == 3
    assert shop.told("saga_oldest_uncompensated_order_age_seconds") == 9
