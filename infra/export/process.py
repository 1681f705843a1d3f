"""The work of `orders export` on a service's dataset: run the export, report its lag, compare log and dataset."""

import asyncio
import os
import signal
import sys
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import structlog

from infra.export import reconciliation
from infra.export.bearer_token import TokenFile
from infra.export.compaction import CompactionLimits
from infra.export.cursor import CursorFile
from infra.export.exporter import Exporter
from infra.export.file_sink import FileSink
from infra.export.http_sink import HttpSink
from infra.export.reconciliation import Comparison
from infra.export.retry_policy import RetryPolicy
from infra.export.rows import Dataset
from infra.export.settings import ExportSettings
from infra.export.sink import Limits, Sink
from infra.export.source import Lag, OpenLog, check, lag
from infra.store.sqlite import SQLiteStore
from infra.timestamps import now
from infra.tuning import use_batch_scheduling

logger = structlog.get_logger()

NICENESS: Final = 10  # the services get the CPU first


class Export(NamedTuple):
    """A dataset of a service, and the settings to export it with."""

    service: str
    dataset: Dataset
    settings: ExportSettings

    @property
    def open_log(self) -> OpenLog:
        return partial(SQLiteStore.read, self.settings.data_dir / self.service / "events.sqlite")

    def sink(self) -> Sink:
        """Make the sink that the settings name; the caller closes it."""
        return sink_of(self.dataset, self.settings)


def sink_of(dataset: Dataset, settings: ExportSettings) -> Sink:
    """Make the sink that these settings name, without its lock; the caller closes it."""
    folder = settings.folder
    if settings.export_sink == "file":
        # A Parquet file is made in memory. So only its size in bytes is limited: rows are small.
        limits = Limits(sys.maxsize, settings.export_file_bytes, settings.export_file_age_s)
        compaction = CompactionLimits(settings.export_compact_files, settings.export_compact_bytes)
        return FileSink(dataset, folder / dataset.name, limits, compaction)
    receiver = urlsplit(settings.export_http_url)._replace(query="", fragment="").geturl()
    return HttpSink(
        dataset,
        settings.export_http_url,
        CursorFile(folder / f"{dataset.name}.http.json", receiver),
        Limits(settings.export_http_rows, sys.maxsize, settings.export_http_age_s),
        timeout_s=settings.export_http_timeout_s,
        token=TokenFile(settings.export_http_token_file) if settings.export_http_token_file else None,
        totals_url=settings.export_http_totals_url,
    )


async def run(export: Export, start: int | datetime | None = None, *, once: bool = False) -> None:
    """Export until SIGTERM or SIGINT; with `once`, end also when all rows of the log are exported.

    `start`: first set the sink back, to write all rows from this position or time on again. Holds the sink's lock, and
    changes the whole process: its signal handlers and its priority.

    Raises ExportError; with `once` or `start` also StoreError.
    """
    use_batch_scheduling()
    os.nice(NICENESS)
    closing = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, closing.set)
    settings, sink = export.settings, export.sink()
    exporter = Exporter(
        export.dataset,
        export.open_log,
        sink,
        RetryPolicy(settings.export_pause_after, settings.export_retry_s, settings.export_pause_s),
        poll_s=settings.export_poll_s,
        report_s=settings.export_report_s,
        clock=now,
        closing=closing,
    )
    try:
        with sink.lock():
            at = await sink.position() if start is None else await exporter.rewind(start)
            logger.info(
                "started",
                sink=settings.export_sink,
                schema=export.dataset.schema,
                position=at.position,
                pid=os.getpid(),
            )
            await exporter.run(once=once)
    finally:
        await sink.close()
    logger.info("stopped")


async def status(export: Export) -> Lag:
    """Return the sink's position and its lag; an export may run meanwhile. Raises ExportError, StoreError."""
    sink = export.sink()
    try:
        position = await sink.position()
        async with export.open_log() as log:
            return await lag(log, export.dataset, position, now())
    finally:
        await sink.close()


async def reconcile(export: Export) -> tuple[Comparison, Lag]:
    """Compare log and dataset up to the sink's position; return the comparison, and the sink's lag.

    The lag is measured before the comparison. An export may run meanwhile, and services record: what comes during a
    long comparison is not in the lag. Raises ExportError, StoreError.
    """
    sink = export.sink()
    try:
        async with export.open_log() as log:
            through = await sink.position()
            await check(log, through)
            behind = await lag(log, export.dataset, through, now())
            return await reconciliation.compare(log, export.dataset, sink, through), behind
    finally:
        await sink.close()
