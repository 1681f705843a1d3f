"""The example of docs/change-a-rule.md, executed in a copy of the system, ends as the page says."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.services import service_names
from tests.docs.pages import ROOT, Block, blocks, section

PAGE = ROOT / "docs" / "change-a-rule.md"
EXAMPLE = blocks(section(PAGE, "## Example: keep the last piece"))
TEST, RULE, COMMAND, OUTPUT = EXAMPLE


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A copy of the product code and of the tests that the page runs, with the page's test in it."""
    for folder in ("contracts", "infra", "ops", *(f"{name}_svc" for name in service_names()), "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / TEST.path).write_text(TEST.text)
    return tmp_path


def change(system: Path, diff: Block) -> None:
    """The rule as the page has it."""
    old, new = (
        "".join(line[1:] for line in diff.text.splitlines(keepends=True) if line[0] == sign) for sign in ("-", "+")
    )
    path = system / diff.path
    assert path.read_text().count(old) == 1, f"this must be in {diff.path} once:\n{old}"
    path.write_text(path.read_text().replace(old, new))


def run(system: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=system, env=env, capture_output=True, text=True, check=False
    )


def test_its_test_fails_before_the_change_and_one_old_rule_after_it(system: Path) -> None:
    options = ("pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "--no-header")

    before = run(system, *options, TEST.path)
    change(system, RULE)
    after = run(system, *options, TEST.path)
    others = run(system, *options, "tests/domain/test_reservation.py")

    assert "test_the_last_piece_is_not_sold" in before.stdout
    assert (before.returncode, after.returncode, others.returncode) == (1, 0, 1), after.stdout
    assert "test_an_order_may_take_the_last_piece" in others.stdout
    assert "test_an_order_may_take_the_last_piece" in PAGE.read_text(encoding="utf-8")


def test_what_if_shows_what_the_page_shows(system: Path) -> None:
    just, recipe, *arguments = shlex.split(COMMAND.text)
    assert just == "just"

    before = run(system, "ops.orders", recipe, *arguments)
    change(system, RULE)
    after = run(system, "ops.orders", recipe, *arguments)

    assert before.returncode == 0
    assert (after.returncode, after.stdout) == (1, OUTPUT.text)


def test_its_code_passes_the_checks_of_this_repository(system: Path) -> None:
    for check in (["check"], ["format", "--check"]):
        done = run(system, "ruff", *check, "--no-cache", TEST.path)
        assert done.returncode == 0, done.stdout
