"""What the pages point at exists, and what must not stand in the repository does not."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import LINK, PAGES, ROOT, anchors, blocks, code, section, tracked

ARCHITECTURE = ROOT / "docs" / "architecture.md"
RECIPES = set(
    re.findall(r"^([a-z][\w-]*)[^:=\n]*:(?!=)", (ROOT / "justfile").read_text(encoding="utf-8"), re.MULTILINE)
)

# Put together from parts, so that this file is not found by its own search.
MACHINE_PATHS = re.compile(
    r"(?<![\w.}$-])/(?:" + "|".join(["wor" + "k", "roo" + "t", "tmp" + "/x"]) + r")(?:/|\b(?!\s*:))"
)
REGISTRIES = re.compile(
    "|".join(
        [
            "pypi" + r"\.org",
            "pythonhosted" + r"\.org",
            "npmjs" + r"\.",
            r"(?:index-url|find-links)[ =]+(?:\w+:/|/|\w+[./])",
        ]
    )
)
UNFINISHED = re.compile("|".join([r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bX" + r"XX\b"]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} does not exist"
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        assert not anchor or anchor in anchors(target), f"{target.name} has no heading for #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_recipe_exists(page: Path) -> None:
    named = {
        name for text in code(page.read_text(encoding="utf-8")) for name in re.findall(r"\bjust ([a-z][\w-]*)", text)
    }

    assert named <= RECIPES


def test_the_recipes_were_found() -> None:
    assert {"demo", "up", "service", "test"} <= RECIPES


def test_every_folder_of_the_layout_exists() -> None:
    (layout,) = blocks(section(ARCHITECTURE, "## Layout"))
    folders = re.findall(r"^(\S+/) ", layout.text, re.MULTILINE)

    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    assert {folder for folder in folders if folder.endswith("_svc/")}


@pytest.mark.parametrize(
    "unwanted",
    [
        pytest.param(MACHINE_PATHS, id="paths of one machine"),
        pytest.param(REGISTRIES, id="hosts of package registries"),
        pytest.param(UNFINISHED, id="things left to do"),
    ],
)
def test_nothing_tracked_has(unwanted: re.Pattern[str]) -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in tracked()
        for number, line in enumerate(text.splitlines(), 1)
        if unwanted.search(line)
    ]

    assert found == []


def test_every_name_of_the_glossary_is_where_it_says() -> None:
    page = ROOT / "docs" / "glossary.md"
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.startswith("| ") or line.startswith(("| Korean", "| ---")):
            continue
        term, english, meaning, where = (cell.strip() for cell in line.strip("|").split(" | "))
        assert term
        assert english
        assert meaning.endswith(".")
        (first, *_) = LINK.findall(where)
        place = page.parent / first.partition("#")[0]
        files = place.glob("*.py") if place.is_dir() else [place]
        text = "\n".join(path.read_text(encoding="utf-8") for path in files)
        names = [
            name.rpartition(".")[2] for name in re.findall(r"`(\w+(?:\.\w+)?)`", where) if not name.endswith(".py")
        ]
        assert [name for name in names if not re.search(rf"\b{name}\b", text)] == [], term


def test_one_version_of_the_nats_cli_is_meant_everywhere() -> None:
    places = [ROOT / "docs" / "operating.md", ROOT / "docs" / "nats-cli.md", ROOT / "justfile", ROOT / ".ci" / "run"]
    found = {
        path.name: set(re.findall(r"natscli/nats@(v[\d.]*\d)", path.read_text(encoding="utf-8"))) for path in places
    }

    (version,) = found["run"]
    assert found == {path.name: {version} for path in places}
