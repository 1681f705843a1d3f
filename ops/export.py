"""`orders export`: export a service's dataset to the data platform.

A service declares its datasets in its module `export`.
"""

import asyncio
import os
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import rich_click as click

from infra.export import reconciliation
from infra.export.errors import ExportStuck, NewerRecord, SinkError, Unavailable
from infra.export.reconciliation import Comparison
from infra.export.rows import Dataset
from infra.export.settings import ExportSettings
from infra.export.source import Lag, stopping_at_newer
from infra.local.services import service_names
from infra.process import logging as logs
from infra.redaction import secrets_in
from infra.settings import SettingsError, read
from infra.store.errors import StoreError
from infra.timestamps import parse_time
from infra.usage import EXIT_USAGE
from ops.cli import EXIT_FINDING, EXIT_NEWER, EXIT_UNREACHABLE, LARGEST, end, ending_well, uv
from ops.errors import Unusable
from ops.output import print_json, print_out


def datasets() -> dict[str, tuple[str, Dataset]]:
    """Import the services' modules `export`; map the name of each dataset in them to its service and the dataset."""
    return {
        value.name: (service, value)
        for service in service_names()
        if find_spec(f"{service}_svc.export") is not None
        for value in vars(import_module(f"{service}_svc.export")).values()
        if isinstance(value, Dataset)
    }


class Start(click.ParamType[int | datetime]):
    """A parameter that is a position of the log (from 1), or a time as `infra.timestamps.parse_time` takes it.

    Its value is an int, or an aware datetime.
    """

    name = "where"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | datetime:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        if value.isascii() and value.isdigit():
            if len(value) <= len(str(LARGEST)) and 1 <= int(value) <= LARGEST:
                return int(value)
            self.fail("positions begin with 1, and have at most 19 digits", param, ctx)
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(f"neither a position such as 12345 nor a time: {error}", param, ctx)


@click.command("export")
@click.argument("action", type=click.Choice(["run", "status", "reconcile"]), default="run", required=False)
@click.option("--from", "start", type=Start(), help="run: write again from this position or time on.")
@click.option("--once", is_flag=True, help="run: end when everything in the log is exported.")
@click.option("--json", "as_json", is_flag=True, help="status: for machines.")
@click.option("--dataset", "name", metavar="NAME", help="Which one. Needed only if there are several.")
@ending_well
def command(*, action: str, start: int | datetime | None, once: bool, as_json: bool, name: str | None) -> None:
    """Export a dataset to the data platform (run), show how far it is (status), or compare it with the log (reconcile).

    Without an action it runs, until SIGTERM or Ctrl-C. It reads the service's log below DATA_DIR; settings begin with
    EXPORT_ (docs/export.md).

    \b
    Exit codes:
      run        0 stopped, or done (--once); 1 it cannot continue; 2 it cannot start;
                 3 no log (--from or --once), or the dataset cannot be reached
      status     0; 1 the next record cannot be exported; 3 the log or the dataset cannot be reached
      reconcile  0 equal; 1 a difference, or not the exported log, or a fact cannot be exported (also the next
                 one; then no comparison is printed); 3 the log or the dataset cannot be reached
      any        2 wrong usage or settings, a missing library, an unusable dataset; 4 newer code recorded the next fact
    """
    if action != "run" and (start is not None or once):
        raise click.UsageError("--from and --once are for `run`")
    if action != "status" and as_json:
        raise click.UsageError("--json is for `status`")
    service, dataset = _chosen(name)
    try:
        settings = read(ExportSettings, os.environ)
        # Imported only here: pyarrow takes a third of a second, which the other commands do not need.
        from infra.export.process import Export, reconcile, run, status  # noqa: PLC0415

        export = Export(service, stopping_at_newer(dataset, settings.data_dir / service), settings)
        if action == "run":
            secrets = secrets_in([settings.export_http_url, settings.export_http_totals_url])
            handler = logs.configure(f"{service}-export", settings.log_level, settings.log_format, secrets)
            try:
                asyncio.run(run(export, start, once=once))
            finally:
                handler.flush()
        elif action == "status":
            _show_status(dataset, settings, asyncio.run(status(export)), as_json=as_json)
        else:
            _show_comparison(dataset, *asyncio.run(reconcile(export)))
    except (SettingsError, SinkError) as error:
        end(f"the export of {dataset.name} cannot be used: {error}", EXIT_USAGE)
    except ExportStuck as error:
        code = EXIT_NEWER if isinstance(error, NewerRecord) else EXIT_FINDING
        end(f"the export of {dataset.name} cannot continue: {error}", code)
    except StoreError as error:
        log = settings.data_dir / service
        end(f"the log in {log} cannot be read: {error}. Has {service}_svc run with this DATA_DIR?", EXIT_UNREACHABLE)
    except Unavailable as error:
        end(f"the dataset cannot be reached: {error}", EXIT_UNREACHABLE)
    except ModuleNotFoundError as error:
        how = f"`{uv()} sync --inexact --extra export` installs it"
        end(f"the export needs {error.name}, which is not installed: {how}", EXIT_USAGE)


def _chosen(name: str | None) -> tuple[str, Dataset]:
    """Return the dataset of this name, with its service before it; without a name, the only dataset.

    Raises Unusable if there is no such dataset, or if no name is given and there is not exactly one dataset.
    """
    found = datasets()
    if name is None and len(found) == 1:
        (only,) = found.values()
        return only
    if name not in found:
        wrong = "which one: --dataset" if name is None else f"there is no dataset {name}"
        raise Unusable(f"{wrong}; services export: {', '.join(found) or 'nothing'}")
    return found[name]


def _show_status(dataset: Dataset, settings: ExportSettings, lag: Lag, *, as_json: bool) -> None:
    told = {
        "dataset": dataset.name,
        "sink": settings.export_sink,
        "position": lag.position,
        "head": lag.head,
        "lag_records": lag.records,
        "lag_s": lag.seconds,
    }
    if as_json:
        print_json(told)
    else:
        print_out("\n".join(f"{name:<12} {value}" for name, value in told.items()))


def _show_comparison(dataset: Dataset, compared: Comparison, lag: Lag) -> None:
    """Print the comparison and the lag. End the process with exit code 1 if log and dataset differ."""
    verdict = reconciliation.verdict(compared)
    if lag.records:
        verdict += f"; {lag.records} records of the log are still to be exported"
    print_out(f"{reconciliation.table(dataset, compared)}\n\n{verdict}")
    if compared.different:
        end("", EXIT_FINDING)
