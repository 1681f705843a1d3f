"""The last audit's verdict and age: only of a report that can be read, whatever its file has."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.metrics import Metrics
from infra.process.audit_report import PATH, AuditGauges
from tests.infra.purse import NOON
from tests.metrics import exposed, value


def exported(folder: Path, report: str) -> str:
    (folder / PATH).parent.mkdir()
    (folder / PATH).write_text(report)
    metrics = Metrics()
    runtime: Any = SimpleNamespace(
        settings=SimpleNamespace(data_dir=folder), metrics=metrics, clock=lambda: NOON, tasks=[]
    )
    gauges = AuditGauges(runtime)
    gauges._look()
    return exposed(metrics)


@pytest.mark.parametrize(("verdict", "good"), [("good", 1), ("newer-code", 1), ("findings", 0)])
def test_a_report_tells_whether_there_are_findings_and_its_age(tmp_path: Path, verdict: str, good: int) -> None:
    text = exported(tmp_path, f'{{"verdict": "{verdict}", "made_at": "{NOON.isoformat()}"}}')

    assert (value(text, "saga_audit_good"), value(text, "saga_audit_age_seconds")) == (good, 0)
    assert value(text, "saga_audit_unjudged_facts") == 0


def test_what_an_audit_did_not_judge_is_counted(tmp_path: Path) -> None:
    report = {
        "verdict": "newer-code",
        "made_at": NOON.isoformat(),
        "newer_code": {"facts": 3, "first": [], "fields": []},
    }

    assert value(exported(tmp_path, json.dumps(report)), "saga_audit_unjudged_facts") == 3


@pytest.mark.parametrize(
    "report", ['{"verdict": "good", "made_at": "2026-01-31T09:00:00"}', '{"verdict": "good"}', "{", "\x00"]
)
def test_a_report_that_cannot_be_read_is_none(report: str, tmp_path: Path) -> None:
    text = exported(tmp_path, report)

    assert "\nsaga_audit_" not in text
