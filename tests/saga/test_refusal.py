"""What an order costs that is refused, and under which cause it is counted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.consuming.session import Broker
from infra.core.errors import Busy, StoreUnavailable
from infra.core.limits import WriterLimits
from infra.http.durations import BEGAN, STATUS, UNMATCHED
from infra.http.problems import Problem
from infra.process.runtime import Runtime
from infra.process.service import assemble
from infra.store.sqlite import SQLiteStore
from order_svc.__main__ import SERVICE
from order_svc.admission import AdmissionControl
from order_svc.api import OrderLine, Orders, PlaceOrder
from order_svc.compensations import Compensations
from order_svc.measures import INVALID, REFUSED, TOO_MANY_OF_ONE, OrderMeasures
from order_svc.progress import Progress
from order_svc.repeats import Repeats
from order_svc.settings import OrderSettings
from tests.metrics import exposed, samples


def orders_of(runtime: Runtime, most: int) -> Orders:
    admission = AdmissionControl(most, soon_s=1)
    measures = OrderMeasures(runtime, Compensations(runtime.metrics))
    return Orders(runtime, admission, Progress(runtime, admission), Repeats(runtime.store), measures)


def refusals(runtime: Runtime) -> dict[str, float]:
    """The causes that have counted a refusal, and how many."""
    found = [one for one in samples(exposed(runtime.metrics)) if one.name == "saga_orders_refused_total"]
    assert len(found) == len({*REFUSED, "invalid", "rate"})
    return {dict(one.labels)["cause"]: one.value for one in found if one.value}


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with SQLiteStore.open(tmp_path / "order" / "events.sqlite", service="order") as store:
        yield assemble(SERVICE, OrderSettings(port=1), store, {})


@pytest.mark.parametrize(
    ("most", "closes", "trouble", "cause"),
    [
        (0, False, None, "overload"),
        (10, True, None, "draining"),
        (0, True, "no session with the broker yet", "draining"),
        (0, False, "no session with the broker yet", "not_ready"),
    ],
)
async def test_an_order_is_refused_for_one_cause(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, most: int, closes: bool, trouble: str | None, cause: str
) -> None:
    orders = orders_of(runtime, most)
    monkeypatch.setattr(Broker, "trouble", trouble)
    if closes:
        runtime.closing.set()

    for count in (1, 2):
        with pytest.raises(Problem) as refused:
            await orders.place(PlaceOrder((OrderLine("mug", 1),)), "ann")
        assert refused.value.body.status == 503
        assert refusals(runtime) == {cause: count}


async def test_an_order_for_which_the_writer_has_no_room_is_one_too_many(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = orders_of(runtime, 10)
    monkeypatch.setattr(Broker, "trouble", None)
    runtime.writer.resume()
    monkeypatch.setattr(runtime.writer, "_limits", WriterLimits(max_waiting_requests=0))

    with pytest.raises(Busy):
        await orders.place(PlaceOrder((OrderLine("mug", 1),)), "ann")

    assert refusals(runtime) == {"overload": 1}


@pytest.mark.parametrize(("cause", "statuses"), [("invalid", INVALID), ("rate", TOO_MANY_OF_ONE)])
async def test_requests_for_an_order_are_refused_for_what_they_are_and_how_many(
    runtime: Runtime, cause: str, statuses: tuple[int, ...]
) -> None:
    orders_of(runtime, 10)

    for status in (*statuses, 200, 202, 404, 409, 500, 503):
        for method, route in (("POST", "/orders"), ("GET", "/orders"), ("POST", "/orders/{order_id}/cancel")):
            scope = {"method": method, "path_template": route, "state": {BEGAN: 0.0, STATUS: status}}
            runtime.requests.observe(scope, UNMATCHED)

    assert refusals(runtime) == {cause: len(statuses)}


async def test_a_refused_order_with_a_quoted_key_takes_no_place_in_the_state_cache(runtime: Runtime) -> None:
    with pytest.raises(Problem) as refused:
        await orders_of(runtime, 0).place(PlaceOrder((OrderLine("mug", 1),)), "ann", '"new"')

    assert refused.value.body.status == 503
    assert not runtime.writer._unit_of_work.state_cache._states


async def test_an_order_that_cannot_be_recorded_counts_as_refused(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broker, "trouble", None)  # all is well, until the store fails
    runtime.writer.suspend("the store failed")

    with pytest.raises(StoreUnavailable):
        await orders_of(runtime, 10).place(PlaceOrder((OrderLine("mug", 1),)), "ann")

    assert refusals(runtime) == {"not_ready": 1}
