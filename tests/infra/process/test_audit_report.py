"""The last audit's verdict and age: only of a report that can be read, whatever its file has."""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import json

from infra.metrics import Metrics
from infra.process.audit_report import PATH, AuditGauges
from infra.store.errors import StoreError
from infra.store.records import Notification
from tests.infra.purse import NOON
from tests.metrics import exposed, value


def exported(folder: Path, report: str) -> str:
    (folder / PATH).parent.mkdir()
    (folder / PATH).write_text(report)
    metrics = Metrics()
    runtime: Any = SimpleNamespace(
        settings=SimpleNamespace(data_dir=folder), metrics=metrics, clock=lambda: NOON, tasks=[], warnings=[]
    )
    gauges = AuditGauges(runtime)
    gauges._look()
    return exposed(metrics)


@pytest.mark.parametrize(("verdict", "good"), [("good", 1), ("newer-code", 1), ("findings", 0)])
def test_a_report_tells_whether_there_are_findings_and_its_age(tmp_path: Path, verdict: str, good: int) -> None:
    text = exported(tmp_path, f'{{"verdict": "{verdict}", "made_at": "{NOON.isoformat()}"}}')

    assert (value(text, "saga_audit_good"), value(text, "saga_audit_age_seconds")) == (good, 0)


@pytest.mark.parametrize(
    "report", ['{"verdict": "good", "made_at": "2026-01-31T09:00:00"}', '{"verdict": "good"}', "{", "\x00"]
)
def test_a_report_that_cannot_be_read_is_none(report: str, tmp_path: Path) -> None:
    text = exported(tmp_path, report)

    assert "\nsaga_audit_" not in text


class System:
    """A system whose log has a first fact of this time, or cannot be read, or is empty; by its AuditGauges."""

    def __init__(self, folder: Path, first: datetime | StoreError | None) -> None:
        self._first, self.reads = first, 0
        runtime: Any = SimpleNamespace(
            settings=SimpleNamespace(data_dir=folder),
            metrics=Metrics(),
            clock=lambda: NOON,
            tasks=[],
            warnings=[],
            store=SimpleNamespace(select_notifications=self.read),
        )
        self.gauges = AuditGauges(runtime)

    async def read(self, after: int, limit: int) -> list[Notification]:
        self.reads += 1
        if isinstance(self._first, StoreError):
            raise self._first
        fact = b"" if self._first is None else json.encode({"at": self._first})
        return [Notification(1, "order-o1", 1, "order.created.pending", fact)][after:limit] if fact else []


async def test_a_system_that_was_never_audited_is_told_a_day_after_its_first_fact(tmp_path: Path) -> None:
    due, young = System(tmp_path, NOON - timedelta(hours=25)), System(tmp_path, NOON - timedelta(hours=24.9))
    for system in (due, young):
        await system.gauges.look()
        await system.gauges.look()
        assert system.reads == 1

    assert young.gauges.warnings() == []
    assert due.gauges.warnings() == [
        f"this system was never audited, and has facts since {NOON - timedelta(hours=25):%Y-%m-%d %H:%M} UTC: "
        "audit it once a day (just audit)"
    ]
    (tmp_path / PATH).parent.mkdir()
    (tmp_path / PATH).write_text(f'{{"verdict": "good", "made_at": "{NOON.isoformat()}"}}')
    await due.gauges.look()
    assert due.gauges.warnings() == []


@pytest.mark.parametrize("first", [None, StoreError("locked")])
async def test_without_a_first_fact_nothing_is_told(tmp_path: Path, first: StoreError | None) -> None:
    system = System(tmp_path, first)

    await system.gauges.look()

    assert system.gauges.warnings() == []
