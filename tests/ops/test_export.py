"""`orders export` finds what services export, and names no service."""

import ast
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.export.rows import Dataset
from ops import export
from ops.orders import orders
from order_svc.export import ORDERS


def asked(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(orders, ["export", *arguments])


def test_the_datasets_are_those_in_the_services_modules() -> None:
    assert export.datasets() == {"orders": ("order", ORDERS)}


def test_a_dataset_that_does_not_exist_is_refused_with_those_that_do() -> None:
    refused = asked("status", "--dataset", "parcels")

    assert (refused.exit_code, refused.stderr) == (2, "there is no dataset parcels; services export: orders\n")


def test_where_several_services_export_one_is_chosen_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Dataset(name="parcels", row_type=ORDERS.row_type, row=ORDERS.row, topics=(), sums=())
    monkeypatch.setattr(export, "datasets", lambda: {"orders": ("order", ORDERS), "parcels": ("post", other)})
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    assert (asked().exit_code, asked().stderr) == (2, "which one: --dataset; services export: orders, parcels\n")
    assert "Has post_svc run with this DATA_DIR?" in asked("status", "--dataset", "parcels").stderr


def test_without_pyarrow_it_says_which_command_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "pyarrow" or name.startswith("infra.export.")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setenv("UV", str(Path.cwd() / ".tools" / "bin" / "uv"))
    words = (
        "the export needs pyarrow, which is not installed: `.tools/bin/uv sync --inexact --extra export` installs it\n"
    )

    for action in ("run", "status", "reconcile"):
        refused = asked(action)
        assert (refused.exit_code, refused.stderr) == (2, words)


def test_pyarrow_is_imported_by_an_export_alone() -> None:
    """It takes a third of a second, which the other commands should not wait for."""
    imports = [
        node.module or ""
        for node in ast.parse(Path(export.__file__).read_text()).body
        if isinstance(node, ast.ImportFrom)
    ]

    assert "infra.export.process" not in imports
