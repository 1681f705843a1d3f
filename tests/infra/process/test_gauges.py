"""Gauges that every service has: what a read model of the stream has yet to read."""

from types import SimpleNamespace
from typing import Any

from infra.metrics import Metrics
from infra.process.gauges import Gauges


def consumer(pending: int) -> Any:
    return SimpleNamespace(backlog=SimpleNamespace(pending=pending, unacknowledged=1))


def test_a_view_of_the_stream_lags_by_what_is_archived_too_and_without_a_session_as_in_the_last_one() -> None:
    view: Any = SimpleNamespace(supervisor=SimpleNamespace(consumers=[]), archived=SimpleNamespace(left=0))
    broker = SimpleNamespace(relay=None, connection=None, trouble=None)
    runtime: Any = SimpleNamespace(
        metrics=Metrics(),
        broker=broker,
        writer=SimpleNamespace(waiting=0),
        views={"popular": view},
        on_recorded=[],
        tasks=[],
    )
    gauges = Gauges(runtime, 0)

    def lag() -> dict[Any, float]:
        return dict(gauges._views_lag())

    assert lag() == {}  # nobody knows yet
    view.supervisor.consumers, view.archived.left = [consumer(2), consumer(3)], 100
    assert lag() == {("popular",): 107}
    view.archived.left = 40
    assert lag() == {("popular",): 47}
    view.supervisor.consumers = []
    assert lag() == {("popular",): 47}
