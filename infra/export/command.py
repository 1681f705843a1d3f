"""The command line of an export: run, status, reconcile. A service's `export` module says what its rows are."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog

from infra.export import reconciliation
from infra.export.bearer_token import TokenFile
from infra.export.cursor import CursorFile
from infra.export.exporter import Exporter
from infra.export.file_sink import FileSink
from infra.export.http_sink import HttpSink
from infra.export.retry_policy import RetryPolicy
from infra.export.rows import Dataset, Unexportable
from infra.export.settings import ExportSettings
from infra.export.sink import Limits, Sink, SinkError, Unavailable
from infra.export.source import AnotherLog, OpenLog, lag
from infra.process import logging as logs
from infra.settings import SettingsError, read
from infra.store.event_store import StoreError
from infra.store.sqlite import SQLiteStore
from infra.tuning import use_batch_scheduling

logger = structlog.get_logger()

EXIT_DIFFERENT: Final = 1
EXIT_STUCK: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3

NICENESS: Final = 10  # whatever the services want of a core, they get first

EPILOG: Final = """\
exit code: run        0 stopped (SIGTERM), or done (--once); 1 it cannot go on; 2 it cannot start; 3 --from found no log
           status     0; 3 no log
           reconcile  0 equal; 1 a difference; 3 the log or the dataset cannot be read
           any        2 wrong usage or settings
"""


def start(text: str) -> int | datetime:
    """A position, or an RFC 3339 time with its offset."""
    if text.isascii() and text.isdigit():
        if 1 <= int(text) <= 1 << 62:
            return int(text)
        raise argparse.ArgumentTypeError("positions begin with 1")
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a position (12345) nor a time (2026-01-31T00:00:00+09:00)"
        ) from None
    if instant.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} is a different time in each zone; add the offset: {text}+09:00")
    return instant


def parser(dataset: Dataset) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="just export",
        description=f"Export {dataset.name} to the data platform, look how far that is, or compare.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("command", nargs="?", choices=["run", "status", "reconcile"], default="run")
    made.add_argument(
        "--from", dest="start", type=start, metavar="WHERE", help="run: write again from this position or time on"
    )
    made.add_argument("--once", action="store_true", help="run: end when everything in the log is exported")
    made.add_argument("--json", action="store_true", help="status: for machines")
    return made


def main(service: str, dataset: Dataset, arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    made = parser(dataset)
    asked = made.parse_args(arguments)
    if asked.command != "run" and (asked.start is not None or asked.once):
        made.error("--from and --once are for `run`")
    if asked.command != "status" and asked.json:
        made.error("--json is for `status`")
    try:
        settings = read(ExportSettings, os.environ)
        if asked.command == "run":
            logs.configure(f"{service}-export", settings.log_level, settings.log_format)
        open_log = partial(SQLiteStore.read, settings.data_dir / service / "events.sqlite")
        return asyncio.run(COMMANDS[asked.command](dataset, settings, open_log, asked))
    except (SettingsError, SinkError) as error:
        sys.stderr.write(f"the export of {dataset.name} cannot be used: {error}\n")
        return EXIT_USAGE
    except (AnotherLog, Unexportable) as error:
        sys.stderr.write(f"the export of {dataset.name} cannot go on: {error}\n")
        return EXIT_STUCK
    except StoreError as error:
        sys.stderr.write(
            f"the log in {settings.data_dir / service} cannot be read: {error}. "
            f"Has {service}_svc run with this DATA_DIR?\n"
        )
        return EXIT_UNREACHABLE
    except Unavailable as error:
        sys.stderr.write(f"the dataset cannot be reached: {error}\n")
        return EXIT_UNREACHABLE


def sink_of(dataset: Dataset, settings: ExportSettings) -> Sink:
    folder = settings.folder
    if settings.export_sink == "file":
        # A Parquet file is made in memory: the bytes bound it, and rows are small.
        limits = Limits(sys.maxsize, settings.export_file_bytes, settings.export_file_age_s)
        return FileSink(dataset, folder / dataset.name, limits)
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


def now() -> datetime:
    return datetime.now(UTC)


async def run(dataset: Dataset, settings: ExportSettings, open_log: OpenLog, asked: argparse.Namespace) -> int:
    use_batch_scheduling()
    os.nice(NICENESS)
    closing = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, closing.set)
    sink = sink_of(dataset, settings)
    exporter = Exporter(
        dataset,
        open_log,
        sink,
        RetryPolicy(settings.export_pause_after, settings.export_retry_s, settings.export_pause_s),
        poll_s=settings.export_poll_s,
        report_s=settings.export_report_s,
        clock=now,
        closing=closing,
    )
    try:
        with sink.lock():
            mark = await sink.position() if asked.start is None else await exporter.rewind(asked.start)
            logger.info(
                "started", sink=settings.export_sink, schema=dataset.schema, position=mark.position, pid=os.getpid()
            )
            await exporter.run(once=asked.once)
    finally:
        await sink.close()
    logger.info("stopped")
    return 0


async def status(dataset: Dataset, settings: ExportSettings, open_log: OpenLog, asked: argparse.Namespace) -> int:
    sink = sink_of(dataset, settings)
    try:
        mark = await sink.position()
        async with open_log() as found:
            behind = await lag(found, dataset, mark, now())
    finally:
        await sink.close()
    told = {
        "dataset": dataset.name,
        "sink": settings.export_sink,
        "position": behind.position,
        "head": behind.head,
        "lag_records": behind.records,
        "lag_s": behind.seconds,
    }
    if asked.json:
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    else:
        sys.stdout.writelines(f"{name:<12} {value}\n" for name, value in told.items())
    return 0


async def reconcile(dataset: Dataset, settings: ExportSettings, open_log: OpenLog, _: argparse.Namespace) -> int:
    sink = sink_of(dataset, settings)
    try:
        async with open_log() as found:
            compared = await reconciliation.compare(found, dataset, sink)
            behind = await lag(found, dataset, compared.mark, now())
    finally:
        await sink.close()
    sys.stdout.write(f"{reconciliation.table(dataset, compared)}\n\n{reconciliation.verdict(compared)}")
    sys.stdout.write(f"; {behind.records} records of the log are still to be exported\n" if behind.records else "\n")
    return EXIT_DIFFERENT if compared.different else 0


COMMANDS: Final[dict[str, Callable[..., Coroutine[Any, Any, int]]]] = {
    "run": run,
    "status": status,
    "reconcile": reconcile,
}
