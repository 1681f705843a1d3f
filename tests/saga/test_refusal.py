"""What an order costs that is refused."""

from pathlib import Path

import pytest

from infra.consuming.session import Broker
from infra.core.errors import StoreUnavailable
from infra.http.problems import Problem
from infra.process.runtime import Runtime
from infra.process.service import assemble
from infra.store.sqlite import SQLiteStore
from order_svc.__main__ import SERVICE
from order_svc.admission import AdmissionControl
from order_svc.api import OrderLine, Orders, PlaceOrder
from order_svc.compensations import Compensations
from order_svc.measures import OrderMeasures
from order_svc.progress import Progress
from order_svc.repeats import Repeats
from order_svc.settings import OrderSettings
from tests.metrics import exposed


def orders_of(runtime: Runtime, most: int) -> Orders:
    admission = AdmissionControl(most, soon_s=1)
    measures = OrderMeasures(runtime, Compensations(runtime.metrics))
    return Orders(runtime, admission, Progress(runtime, admission), Repeats(runtime.store), measures)


async def test_a_refused_order_with_a_quoted_key_takes_no_place_in_the_state_cache(tmp_path: Path) -> None:
    async with SQLiteStore.open(tmp_path / "order" / "events.sqlite", service="order") as store:
        runtime = assemble(SERVICE, OrderSettings(port=1), store, {})

        with pytest.raises(Problem) as refused:
            await orders_of(runtime, 0).place(PlaceOrder((OrderLine("mug", 1),)), "ann", '"new"')

        assert refused.value.body.status == 503
        assert 'saga_orders_refused_total{cause="not_ready"} 1.0' in exposed(runtime.metrics)
        assert not runtime.writer._unit_of_work.state_cache._states


async def test_an_order_that_cannot_be_recorded_counts_as_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteStore.open(tmp_path / "order" / "events.sqlite", service="order") as store:
        runtime = assemble(SERVICE, OrderSettings(port=1), store, {})
        monkeypatch.setattr(Broker, "trouble", None)  # all is well, until the store fails
        runtime.writer.suspend("the store failed")

        with pytest.raises(StoreUnavailable):
            await orders_of(runtime, 10).place(PlaceOrder((OrderLine("mug", 1),)), "ann")

        assert 'saga_orders_refused_total{cause="not_ready"} 1.0' in exposed(runtime.metrics)
