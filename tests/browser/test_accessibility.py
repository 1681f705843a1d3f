"""axe-core finds nothing on any page of the dashboard, light or dark, on a large and on a small screen.

Its file is unchanged from npm's axe-core 4.14.1 (MPL-2.0, LICENSE beside it). It is not a part of the product.
"""

import asyncio
import hashlib
import re
from pathlib import Path

import pytest

from tests.browser.chromium import PATIENCE_S, Chromium
from tests.browser.test_dashboard import press, resize, seen
from tests.browser.visited import PAGES, Visited, html

AXE = Path(__file__).parent / "axe" / "axe-4.14.1.min.js"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"

RUN = """
axe.run(document, {resultTypes: ["violations"]}).then(found => found.violations.map(
  one => one.id + ": " + one.nodes.map(node => node.target.join(" ") + " " + node.failureSummary).join(" | ")
))
"""


def test_the_file_is_the_one_of_its_version() -> None:
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == SHA256


async def violations(browser: Chromium) -> list[str]:
    await browser.script(AXE.read_text(encoding="utf-8"))
    found = await browser.script(RUN)
    assert isinstance(found, list)
    return [str(one) for one in found]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_has_no_violation(visited: Visited, name: str, theme: str) -> None:
    browser = visited.browser
    await browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    for width in (1_280, 390):
        await resize(browser, width)
        await browser.visit(visited.board.url + visited.pages[name])
        await browser.script("for (const one of document.querySelectorAll('details')) one.open = true")

        assert await violations(browser) == []
        assert await browser.script("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.asyncio(loop_scope="module")
async def test_the_preview_and_the_keys_have_no_violation(visited: Visited, theme: str) -> None:
    browser = visited.browser
    await browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    await browser.visit(f"{visited.board.url}/dead-letters")
    browser.loaded.clear()
    await browser.script("document.querySelector('main form').submit()")
    await asyncio.wait_for(browser.loaded.wait(), PATIENCE_S)
    assert await browser.script("document.querySelector('h1').innerText") == "What a redrive would do"
    assert await violations(browser) == []

    await press(browser, "?")
    assert await browser.script("document.getElementById('help').open")
    assert await violations(browser) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_whose_numbers_are_old_has_no_violation(visited: Visited) -> None:
    browser = visited.browser
    for theme in ("light", "dark"):
        await browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        await browser.visit(f"{visited.board.url}/")
        await browser.script("silence(), finished = true, document.getElementById('age').dataset.seen = '2026-01-01'")
        await seen(browser, "document.getElementById('age').classList.contains('stale')")

        assert await violations(browser) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_colours_alone_say_nothing(visited: Visited) -> None:
    """Each coloured kind of fact has a word beside it, too."""
    text = re.sub(r"<[^>]*>", " ", await html(visited.board, visited.pages["refused"]))

    assert "(taken back)" in text
    assert "(stopped)" in text
