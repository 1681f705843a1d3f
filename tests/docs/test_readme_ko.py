"""README.ko.md keeps step with README.md: the same headings, blocks of code, tables, lists, pictures and links."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import FENCE, LINK, README, ROOT, blocks

KOREAN = ROOT / "README.ko.md"
GLOSSARY = ROOT / "docs" / "glossary.md"


def without_code(text: str) -> str:
    return FENCE.sub("", text)


def headings(text: str) -> list[str]:
    """The levels, in their order."""
    return re.findall(r"^(#+) ", without_code(text), re.MULTILINE)


def first_columns(text: str) -> list[str]:
    """Of all rows but a table's head, which is a word."""
    return re.findall(r"^\| (`.*?) \|", without_code(text), re.MULTILINE)


def items(text: str) -> list[int]:
    """How many items each section's lists have."""
    return [len(re.findall(r"^- ", part, re.MULTILINE)) for part in without_code(text).split("\n## ")]


def links(text: str) -> list[str]:
    """But the last, which leads to the other language."""
    return LINK.findall(text)[:-1]


def pictures(text: str) -> list[str]:
    return re.findall(r'(?:srcset|src)="([^"]+)"', text)


def spans(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", without_code(text)))


@pytest.mark.parametrize(
    "of",
    [headings, blocks, first_columns, items, links, pictures, spans],
    ids=lambda of: of.__name__,
)
def test_both_have_the_same(of: Callable[[str], object]) -> None:
    english, korean = (path.read_text(encoding="utf-8") for path in (README, KOREAN))

    assert of(english)
    assert of(korean) == of(english)


@pytest.mark.parametrize(("page", "other"), [(README, KOREAN), (KOREAN, README)], ids=["English", "Korean"])
def test_each_links_the_other(page: Path, other: Path) -> None:
    assert LINK.findall(page.read_text(encoding="utf-8"))[-1] == other.name


@pytest.mark.parametrize(
    "english", ["order", "points", "coupon", "stock", "confirmed", "compensation, undo", "choreography", "dead letter"]
)
def test_it_uses_the_terms_of_the_glossary(english: str) -> None:
    rows = [line.split(" | ") for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    (terms,) = (cells[0].removeprefix("| ").split(", ") for cells in rows if cells[1] == english)

    assert any(term in KOREAN.read_text(encoding="utf-8") for term in terms), terms
