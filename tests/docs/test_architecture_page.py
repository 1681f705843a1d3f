"""docs/architecture.md: its picture is drawn from the imports, and every stop of its walk exists."""

import ast
import re
from pathlib import Path

import pytest

from ops import rooms
from tests.docs.pages import LINK, ROOT, blocks, rows, section

PAGE = ROOT / "docs" / "architecture.md"
STOPS = rows(section(PAGE, "## A walk"))


def test_the_picture_is_what_the_imports_say() -> None:
    found = rooms.BLOCK.search(PAGE.read_text(encoding="utf-8"))

    assert found is not None
    assert found[0] == rooms.mermaid(rooms.edges()), "draw it again: just docs"


def test_no_arrow_is_left_out_but_those_that_a_longer_way_implies() -> None:
    graph = {"ops": {"http", "core", "store"}, "http": {"core"}, "core": {"store"}, "store": set()}

    assert rooms.reduced(graph) == {"ops": {"http"}, "http": {"core"}, "core": {"store"}, "store": set()}


def test_every_room_is_in_the_picture() -> None:
    folders = {path.parent.name for path in (ROOT / "infra").glob("*/__init__.py")}

    assert folders < set(rooms.edges())


def test_a_page_without_the_markers_is_not_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")

    with pytest.raises(LookupError, match="rooms:begin"):
        rooms.write(page)

    assert page.read_text() == "before\n"


def test_the_walk_has_ten_stops() -> None:
    assert [cells[0] for cells in STOPS] == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("cells", STOPS, ids=lambda cells: cells[0])
def test_a_stop_is_a_file_that_defines_the_names(cells: list[str]) -> None:
    _, file, names, what = cells
    (link,) = LINK.findall(file)
    assert file == f"[`{link.removeprefix('../')}`]({link})"
    tree = ast.parse((PAGE.parent / link).read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    defined |= {target.id for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in names_of(node)}
    methods = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}

    assert set(re.findall(r"`(\w+)`", names)) <= defined
    begins = re.match(r"`(\w+)`", what)
    assert begins is None or begins[1] in methods


def names_of(node: ast.Assign) -> list[ast.Name]:
    return [target for target in node.targets if isinstance(target, ast.Name)]


def test_the_walk_begins_with_the_recipe_and_is_one_page() -> None:
    justfile = (ROOT / "justfile").read_text(encoding="utf-8")

    assert 'python -m infra.start --service order "$@"' in justfile
    start = (ROOT / "infra" / "start.py").read_text(encoding="utf-8")
    assert "{arguments.pop(0).removesuffix('_svc')}_svc" in start
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 120
    assert [block.language for block in blocks(PAGE.read_text(encoding="utf-8"))] == ["mermaid", "mermaid", "text"]
