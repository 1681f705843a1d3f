"""The table of docs/choreography.md is the code's: who hears and says what."""

from pathlib import Path

import pytest

from ops.errors import Found
from ops.flow import command as flow
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "choreography.md"


def test_who_hears_and_says_what_is_what_the_code_says() -> None:
    found = flow.BLOCK.search(PAGE.read_text(encoding="utf-8"))

    assert found is not None
    assert found[0] == flow.markdown(flow.parts()), "write it again: just docs"


def test_the_flow_is_written_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- flow:begin -->\nold\n<!-- flow:end -->\nafter\n")

    flow.write(page, "new \\1\n")

    assert page.read_text() == "before\n<!-- flow:begin -->\nnew \\1\n<!-- flow:end -->\nafter\n"


def test_a_page_without_the_markers_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")

    with pytest.raises(Found, match="flow:begin"):
        flow.write(page, "new\n")

    assert page.read_text() == "before\n"
