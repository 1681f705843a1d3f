"""What all services export together: made from the code, without a broker."""

import contextlib
import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from infra.local.services import service_names
from infra.metrics import Metrics
from infra.process.app import build
from infra.process.gauges import export_gauges
from infra.process.runtime import Runtime
from infra.process.service import Service, assemble
from infra.store.sqlite import SQLiteStore
from infra.tracing.start import traced


class Kind(NamedTuple):
    """The type and the labels of a metric."""

    type: str
    labels: tuple[str, ...]


class Views(dict[str, Any]):
    """No read models, though the routes ask for some."""

    def __missing__(self, name: str) -> None:
        return None


def service_of(name: str) -> Service:
    service: Service = importlib.import_module(f"{name}_svc.__main__").SERVICE
    return service


@contextlib.asynccontextmanager
async def assembled(name: str, folder: Path) -> AsyncIterator[tuple[Service, Runtime]]:
    """A service that does not run, with all its instruments."""
    service = service_of(name)
    async with SQLiteStore.open(folder / name / "events.sqlite", service=name) as store:
        runtime = assemble(service, service.settings(port=1), store, Views())
        build(name, service.routes(runtime), runtime)
        await export_gauges(runtime, folder / name)
        parts: Any = {"writer": runtime.writer, "dead_letters": runtime.broker.dead_letters, "server": None}
        async with traced(name, runtime.settings, runtime.clock, runtime.metrics, **parts):
            yield service, runtime


def kinds(metrics: Metrics) -> dict[str, Kind]:
    return {
        **{one.name: Kind("counter", one.labels) for one in metrics.counters},
        **{one.name: Kind("histogram", one.labels) for one in metrics.histograms},
        **{one.name: Kind("counter" if one.rising else "gauge", one.labels) for one in metrics.readings},
    }


async def all_kinds(folder: Path) -> dict[str, Kind]:
    """Every metric of every service, by its name."""
    found: dict[str, Kind] = {}
    for name in service_names():
        async with assembled(name, folder) as (_, runtime):
            found |= kinds(runtime.metrics)
    return found
