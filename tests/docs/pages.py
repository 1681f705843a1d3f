"""What the pages for people contain: their text, their blocks of code, their tables, their links."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CELL = re.compile(r"(?<!\\)\|")


class Block(NamedTuple):
    """A fenced block of code, and the path in the line above it: `path`: (empty if there is none)."""

    language: str
    path: str
    text: str


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next heading of the same or a higher level."""
    level = len(heading.partition(" ")[0])
    lines: list[str] = []
    inside, fenced = False, False
    for line in page.read_text(encoding="utf-8").splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if inside and not fenced and re.match(rf"#{{1,{level}}} ", line):
            break
        if inside:
            lines.append(line)
        inside = inside or line == f"{heading}\n"
    assert lines, f"{page.name} has nothing below {heading!r}"
    return "".join(lines)


def blocks(text: str) -> list[Block]:
    found = []
    for fence in FENCE.finditer(text):
        above = re.search(r"^`([^`]+)`:\n\n\Z", text[: fence.start()], re.MULTILINE)
        found.append(Block(fence[1], above[1] if above else "", fence[2]))
    return found


def rows(text: str) -> list[list[str]]:
    """The cells of a section's first table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert set(lines[1]) <= set("| -:")
    return [[cell.strip().replace("\\|", "|") for cell in CELL.split(line.strip("|"))] for line in lines[2:]]


def code(text: str) -> list[str]:
    """Everything that stands as code in a page: fenced blocks and `spans`."""
    return [block.text for block in blocks(text)] + re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tracked() -> list[tuple[Path, str]]:
    """The text files of the repository, with their text; in a copy that is no clone, all but hidden ones."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
        names = listed.stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = [str(path.relative_to(ROOT)) for path in ROOT.glob("[!.]*/**/*") if "__pycache__" not in path.parts]
    found = []
    for name in names:
        path = ROOT / name
        if name and path.is_file():
            try:
                found.append((path.relative_to(ROOT), path.read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue  # not text
    assert found
    return found
