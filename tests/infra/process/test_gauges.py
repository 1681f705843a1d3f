"""Gauges that every service has: what read models have yet to read, and what the writer has yet to decide."""

from types import SimpleNamespace
from typing import Any

from infra.metrics import Metrics
from infra.process.gauges import Gauges
from infra.read_models.log_view import LogView
from tests.metrics import exposed, value


def consumer(pending: int) -> Any:
    return SimpleNamespace(backlog=SimpleNamespace(pending=pending, unacknowledged=1))


def runtime_of(**views: Any) -> Any:
    return SimpleNamespace(
        metrics=Metrics(),
        broker=SimpleNamespace(
            relay=None, connection=None, trouble=None, log_lost=False, store_failed=False, full=False
        ),
        writer=SimpleNamespace(waiting=0),
        views=views,
        on_recorded=[],
        tasks=[],
    )


def test_a_view_of_the_log_lags_by_what_is_recorded_and_not_read() -> None:
    checkpoint, nothing = SimpleNamespace(position=7), SimpleNamespace()
    tables: Any = SimpleNamespace(checkpoint=checkpoint)
    of_the_log: Any = nothing
    runtime = runtime_of(orders=LogView(of_the_log, of_the_log, tables))
    gauges = Gauges(runtime, log_end=10)

    def lag() -> float:
        return value(exposed(runtime.metrics), "saga_view_lag_facts", view="orders")

    assert lag() == 3
    gauges.recorded([object(), object()])  # type: ignore[list-item]
    assert lag() == 5
    checkpoint.position = 12
    assert lag() == 0
    checkpoint.position = 13  # it has read what the gauge has not heard of yet
    assert lag() == 0


def test_what_waits_for_the_writer_is_told() -> None:
    runtime = runtime_of()
    Gauges(runtime, 0)
    runtime.writer.waiting = 12

    assert value(exposed(runtime.metrics), "saga_writer_queue_length") == 12


def test_a_view_of_the_stream_lags_by_what_is_archived_too_and_without_a_session_as_in_the_last_one() -> None:
    view: Any = SimpleNamespace(supervisor=SimpleNamespace(consumers=[]), archived=SimpleNamespace(left=0))
    gauges = Gauges(runtime_of(popular=view), 0)

    def lag() -> dict[Any, float]:
        return dict(gauges._views_lag())

    assert lag() == {}  # nobody knows yet
    view.supervisor.consumers, view.archived.left = [consumer(2), consumer(3)], 100
    assert lag() == {("popular",): 107}
    view.archived.left = 40
    assert lag() == {("popular",): 47}
    view.supervisor.consumers = []
    assert lag() == {("popular",): 47}
