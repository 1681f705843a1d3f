"""The gauges that every service has, read from memory at a scrape: queue, relay, read models, readiness."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from contracts.fact import Fact
from infra.aio import wait
from infra.metrics import Labels
from infra.process.build import commit_of, installed_version
from infra.process.consumer_gauges import ConsumerGauges
from infra.process.disk_gauges import DiskGauges
from infra.process.readiness import ready_by_reason
from infra.process.relay_lag import RelayLag
from infra.process.runtime import Runtime
from infra.read_models.log_view import LogView
from infra.store.errors import StoreError

CHECK_EVERY_S: Final = 5.0
"""Seconds between two small writes that show whether the store can record."""


class Gauges:
    """Exports the gauges that every service has, but for those of its consumers and its disk.

    Making one also has `runtime` call `recorded` for what is recorded, and run `run` as a task.
    """

    def __init__(self, runtime: Runtime, log_end: int) -> None:
        """`log_end`: the position of the log's last fact before the writer runs. Make one Gauges, before the start."""
        self._runtime = runtime
        self._log = RelayLag(lambda: runtime.broker.relay, log_end)
        self._records = True
        self._backlogs: dict[str, int] = {}
        """Read model of the stream → what its consumers had yet to hear in the last session that a read saw."""
        runtime.on_recorded.append(self.recorded)
        runtime.tasks.append(self.run)
        self._export()

    def recorded(self, facts: Sequence[Fact]) -> None:
        self._log.recorded(len(facts))

    async def run(self) -> None:
        """Try every CHECK_EVERY_S seconds whether the store can record, until the process closes."""
        while not await wait(self._runtime.closing, CHECK_EVERY_S):
            try:
                await self._runtime.store.check()
            except StoreError:  # StoreSetupError is one
                self._records = False
            else:
                self._records = True

    def _export(self) -> None:
        runtime, metrics = self._runtime, self._runtime.metrics
        writer = runtime.writer
        metrics.gauge(
            "saga_writer_queue_length", "Requests and deliveries that wait to be decided.", lambda: writer.waiting
        )
        metrics.gauge("saga_relay_lag_facts", "Facts of the log that the stream has not yet.", lambda: self._log.facts)
        metrics.gauge(
            "saga_relay_lag_seconds", "How long the oldest of these waits; 0 without any.", lambda: self._log.seconds
        )
        metrics.gauge(
            "saga_broker_connected",
            "1 with a session with the broker, 0 without.",
            lambda: float(runtime.broker.connection is not None),
        )
        metrics.gauges_by("saga_view_lag_facts", "Facts that a read model has yet to read.", ("view",), self._views_lag)
        metrics.gauges_by(
            "saga_ready", "1 unless the service is not ready for this reason; then 0.", ("reason",), self._ready
        )
        build = (installed_version(), commit_of(Path(__file__).resolve().parents[2]))
        metrics.gauges_by("saga_build_info", "Always 1; which code runs.", ("version", "commit"), lambda: {build: 1.0})

    def _views_lag(self) -> Mapping[Labels, float]:
        return dict(self._view_lags())

    def _view_lags(self) -> Iterator[tuple[Labels, float]]:
        for name, view in self._runtime.views.items():
            if isinstance(view, LogView):
                yield (name,), max(0, self._log.end - view.position)
                continue
            if backlogs := [consumer.backlog for consumer in view.supervisor.consumers]:
                self._backlogs[name] = sum(backlog.pending + backlog.unacknowledged for backlog in backlogs)
            if name in self._backlogs:  # before the first session nobody knows
                yield (name,), self._backlogs[name] + view.archived.left

    def _ready(self) -> Mapping[Labels, float]:
        return {
            (reason,): float(ready) for reason, ready in ready_by_reason(self._runtime.broker, self._records).items()
        }


async def export_gauges(runtime: Runtime, folder: Path) -> None:
    """Export the gauges of a service: its own, its disk's and its consumers'.

    Call it before the writer runs. The store is in `folder`.
    """
    try:
        log_end = await runtime.store.max_notification_id()
    except StoreError:  # the store may recover; what is published tells the position
        log_end = 0
    Gauges(runtime, log_end)
    DiskGauges(runtime, folder)
    ConsumerGauges(runtime.consumers, runtime.metrics, runtime.clock)
