"""README.md is one that can be read in a minute: short, with few guarantees and limits, and commands that exist."""

import re

import pytest

from ops.orders import orders
from tests.docs.pages import README, ROOT, blocks, rows, section

MOST_LINES = 150
TRY_IT = [
    "python3 -m pip install -qq --target .tools uv && .tools/bin/uv run just demo",
    ".tools/bin/uv run just test",
]
"""Users and CI rely on these two commands."""


def test_it_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("heading", ["## What is guaranteed", "## What is not"])
def test_it_has_eight_guarantees_and_eight_limits(heading: str) -> None:
    assert len(re.findall(r"^- \*\*", section(README, heading), re.MULTILINE)) == 8


def test_it_is_tried_with_two_commands() -> None:
    (block,) = blocks(section(README, "## Try it"))

    assert block.text.splitlines() == TRY_IT


def test_it_has_five_requests() -> None:
    (block,) = blocks(section(README, "## Five requests"))

    assert len(re.findall(r"^curl ", block.text, re.MULTILINE)) == 5


def test_the_table_of_commands_has_every_command_of_orders() -> None:
    commands = {words[0] for cells in rows(section(README, "## Commands")) for words in just(cells[0])}

    assert set(orders.commands) <= commands


def just(cell: str) -> list[list[str]]:
    """The recipes of a cell, each with its arguments."""
    return [command.split() for command in re.findall(r"`just ([^`]+)`", cell)]


def test_it_links_every_page_for_people() -> None:
    text = README.read_text(encoding="utf-8")
    pages = [path for path in (ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in text]

    assert pages == []
