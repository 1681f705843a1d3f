"""docs/metrics.md lists every metric with its type and labels, and nothing else."""

from pathlib import Path

from tests.docs.pages import ROOT, rows
from tests.metrics.exported import Kind, all_kinds

PAGE = ROOT / "docs" / "metrics.md"


async def test_the_page_lists_what_the_services_export(tmp_path: Path) -> None:
    listed = {
        name.strip("`"): Kind(kind, tuple(label.strip("` ") for label in labels.split(",") if label))
        for name, kind, labels, _ in rows(PAGE.read_text(encoding="utf-8"))
    }

    assert listed == await all_kinds(tmp_path)
