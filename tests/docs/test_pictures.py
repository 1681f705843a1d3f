"""The README's terminal pictures show what the commands print today, whatever the time it takes them."""

import html
import re
from collections import defaultdict
from xml.etree import ElementTree

import pytest
from rich.text import Text

from ops import pictures
from tests.docs.pages import README, ROOT

COLUMN = 12.2
"""How wide rich draws a character."""


def shown(svg: str) -> list[str]:
    """The lines of a picture, from the text elements of its lines; rich leaves blank ones out."""
    lines: dict[int, str] = defaultdict(str)
    for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        if found := re.search(r"-line-(\d+)\)$", element.get("clip-path", "")):
            line = int(found[1])
            column = round(float(element.get("x", "0")) / COLUMN)
            lines[line] = lines[line].ljust(column) + html.unescape(element.text or "")
    return [lines[number] for number in range(max(lines) + 1)]


UNSTEADY = {
    "crash": r"^ *[\d.]+(?= s )|\d+\.\d+(?= s\b)|[\d,]+(?= (messages|requests|facts|answers)\b)",
    "demo": r"^ *[\d.]+(?= )|\d+\.\d+(?= m?s\b)",
    "trace": r"\d+-\d+-\d+ [\d:.]+(?= UTC)|^ *[\d.]+(?= )|\d+\.\d+(?= m?s\b)|\d+ *$",
}
"""Of each picture: times; in a trace sequences; in a crash what depends on when it happened."""


def timeless(name: str, lines: list[str]) -> list[str]:
    """Without what is unsteady. Sorted, because services undo their parts side by side."""
    return sorted(" ".join(re.sub(UNSTEADY[name], "…", line.replace("\xa0", " ")).split()) for line in lines)


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_shows_what_the_command_prints(name: str) -> None:
    _, run = pictures.PICTURES[name]
    printed = timeless(name, Text.from_ansi(run().strip("\n")).plain.splitlines())

    assert len(printed) > 5
    for theme in pictures.THEMES:
        picture = (pictures.FOLDER / f"{name}-{theme}.svg").read_text(encoding="utf-8")
        assert timeless(name, shown(picture)) == printed, "draw it again: just pictures"


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_shown_in_both_themes_and_needs_no_network(name: str) -> None:
    text = README.read_text(encoding="utf-8")
    for theme in pictures.THEMES:
        path = pictures.FOLDER / f"{name}-{theme}.svg"
        assert str(path.relative_to(ROOT)) in text
        assert re.findall(r"url\((?!#)|href=", path.read_text(encoding="utf-8")) == []
