"""The export's commands: beside the test, or without a process of their own."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from infra.export.process import sink_of
from infra.export.settings import ExportSettings
from infra.settings import read
from ops.orders import orders
from order_svc.export import ORDERS
from tests.e2e.processes import Started
from tests.forked import Forked
from tests.infra.export.orders import exporter

EXPORT = ("ops.orders", "export")


class Ended(NamedTuple):
    code: int
    stdout: str
    stderr: str


async def command(env: Mapping[str, str], *arguments: str) -> Ended:
    """`just export <arguments>` for commands that end: status and reconcile, and what is refused."""
    runner = CliRunner(env={**env, "COLUMNS": "160"})
    ended = await asyncio.to_thread(runner.invoke, orders, ["export", *arguments])
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


async def export_once(env: Mapping[str, str], start: int | datetime | None = None) -> None:
    """`just export --once`, perhaps with `--from`."""
    sink = sink_of(ORDERS, read(ExportSettings, env))
    try:
        with sink.lock():
            running = exporter(Path(env["DATA_DIR"]), sink)
            if start is not None:
                await running.rewind(start)
            await running.run(once=True)
    finally:
        await sink.close()


@contextlib.contextmanager
def exporting(env: Mapping[str, str], folder: Path) -> Iterator[Started]:
    """`just export`, until the body ends."""
    output = folder / "export.out"
    process = Forked(*EXPORT, env=env, stdout=output)
    try:
        yield Started(process, output)
    finally:
        process.kill()
        process.wait()
