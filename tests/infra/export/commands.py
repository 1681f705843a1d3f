"""The export's commands: beside the test, or without a process of their own."""

import asyncio
import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from infra.export.command import main, sink_of
from infra.export.settings import ExportSettings
from infra.settings import read
from order_svc.export import ORDERS
from tests.e2e.processes import Started
from tests.forked import Forked
from tests.infra.export.orders import exporter

EXPORT = "order_svc.export"


class Ended(NamedTuple):
    code: int
    stdout: str
    stderr: str


async def command(env: Mapping[str, str], *arguments: str) -> Ended:
    """`just export <arguments>` for commands that end: status and reconcile, and whatever is refused."""
    out, said = io.StringIO(), io.StringIO()

    def run() -> int:
        try:
            return main("order", ORDERS, arguments)
        except SystemExit as ended:  # of argparse
            return int(ended.code or 0)

    with (
        mock.patch.dict(os.environ, env, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(said),
    ):
        code = await asyncio.to_thread(run)
    return Ended(code, out.getvalue(), said.getvalue())


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
    process = Forked(EXPORT, env=env, stdout=output)
    try:
        yield Started(process, output)
    finally:
        process.kill()
        process.wait()
