"""What holds on every page of the dashboard: times as chosen; without JavaScript, and on paper, it says what it has."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.browser.chromium import Chromium
from tests.browser.test_dashboard import resize
from tests.browser.visited import PAGES, Visited

RAW = "for (const one of document.querySelectorAll('main pre, main code')) one.remove()"
"""JavaScript that takes away what is shown as it was recorded, or is there to be copied."""


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.asyncio(loop_scope="module")
async def test_each_time_is_shown_as_chosen(visited: Visited, name: str) -> None:
    browser, page = visited.browser, visited.pages[name]
    await browser.call("Emulation.setTimezoneOverride", timezoneId="Asia/Seoul")
    for chosen, other in (("local", r"UTC|\d[T ]\d\d:\d\d:\d\d(?!\.\d+ \+09:00)"), ("ago", r"UTC|\d:\d\d:\d\d")):
        await browser.visit(f"{visited.board.url}{page}{'&' if '?' in page else '?'}times={chosen}")
        await browser.script("for (const one of document.querySelectorAll('details')) one.open = true")
        await browser.script(RAW)
        text = str(await browser.script("main.innerText"))
        assert re.findall(rf".*(?:{other}).*", text) == [], chosen


# Without JavaScript ---------------------------------------------------------------------------------------------------

SAID = {
    "overview": ("Needs attention", "Who hears what"),
    "order": ("confirmed", "Each fact", "just trace"),
    "moment": ("2 of 5 facts", "on →"),
    "refused": ("canceled and compensated", "(taken back)"),
    "stuck": ("canceled, not compensated yet", "dead letters:"),
    "list": ("Filter", "CONFIRMED", "CANCELED"),
    "empty list": ("no order with user_id nobody",),
    "wrong filter": ("400",),
    "found": ("product mug",),
    "not found": ("no order nothing", "no product nothing"),
    "dead letters": ("Preview a redrive", "choose none"),
    "operation": ("The redrive is over: 1 fails", "a try"),
    "no page": ("there is no such page",),
}
"""What a person reads on each page, also without a script."""


@pytest_asyncio.fixture(loop_scope="module")
async def scriptless(visited: Visited) -> AsyncIterator[Chromium]:
    """The browser with JavaScript turned off."""
    browser = visited.browser
    await resize(browser, 390)
    await browser.call("Emulation.setScriptExecutionDisabled", value=True)
    yield browser
    await browser.call("Emulation.setScriptExecutionDisabled", value=False)


async def drawn(browser: Chromium) -> tuple[str, int, int]:
    """The text of the page as it is drawn, the width of what is drawn, and that of the window."""
    found = await browser.call("DOMSnapshot.captureSnapshot", computedStyles=[])
    document, strings = found["documents"][0], found["strings"]
    text = " ".join(strings[index] for index in document["layout"]["text"] if index >= 0)
    metrics = await browser.call("Page.getLayoutMetrics")
    return text, metrics["cssContentSize"]["width"], metrics["cssLayoutViewport"]["clientWidth"]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.asyncio(loop_scope="module")
async def test_without_javascript_each_page_says_what_it_has(visited: Visited, scriptless: Chromium, name: str) -> None:
    await scriptless.visit(visited.board.url + visited.pages[name])

    text, width, window = await drawn(scriptless)

    assert [one for one in SAID[name] if one not in text] == []
    assert "Without JavaScript a page shows one moment" in text
    for needs_it in ("local", "copy", "play", "copied"):
        assert needs_it not in text.split(), f"{needs_it} does nothing without a script"
    assert width <= window


@pytest.mark.asyncio(loop_scope="module")
async def test_without_javascript_a_link_leads_to_each_row_and_marks_it(visited: Visited, scriptless: Chromium) -> None:
    address = visited.board.url + visited.pages["order"]
    await scriptless.visit(f"{address}#fact-reservation@1")

    styles: list[dict[str, Any]] = []
    await scriptless.call("DOM.enable")
    await scriptless.call("CSS.enable")
    root = (await scriptless.call("DOM.getDocument"))["root"]["nodeId"]
    for row in ("fact-reservation@1", "fact-order@1"):
        selector = f"[id='{row}']"
        node = (await scriptless.call("DOM.querySelector", nodeId=root, selector=selector))["nodeId"]
        computed = (await scriptless.call("CSS.getComputedStyleForNode", nodeId=node))["computedStyle"]
        styles.append({one["name"]: one["value"] for one in computed})

    assert styles[0]["box-shadow"] != "none"
    assert styles[1]["box-shadow"] == "none"


# On a screen ----------------------------------------------------------------------------------------------------------

CUT_OFF = """
[...document.querySelectorAll(".wide")].filter(one => one.scrollWidth > one.clientWidth).map(one => one.innerText)
"""


@pytest.mark.asyncio(loop_scope="module")
async def test_each_column_of_the_dead_letters_is_in_a_window_of_1280_pixels(visited: Visited) -> None:
    await resize(visited.browser, 1_280)
    await visited.browser.visit(visited.board.url + visited.pages["dead letters"])

    assert await visited.browser.script("document.querySelectorAll('td.why').length > 1")
    assert await visited.browser.script(CUT_OFF) == []


# On paper -------------------------------------------------------------------------------------------------------------

PAPER = """
({
  wide: document.documentElement.scrollWidth <= innerWidth
    && [...document.querySelectorAll(".wide")].every(e => e.scrollWidth <= e.clientWidth),
  hidden: [...document.querySelectorAll("header, button, input, dialog")].every(e => !e.getClientRects().length),
  closed: [...document.querySelectorAll("details > :not(summary)")].filter(e => !e.checkVisibility()).length,
  paper: getComputedStyle(document.documentElement).backgroundColor,
})
"""
A4 = 718  # pixels between margins of a centimetre


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.asyncio(loop_scope="module")
async def test_on_paper_each_page_is_whole_and_light_and_has_nothing_to_click(visited: Visited, name: str) -> None:
    browser = visited.browser
    await resize(browser, A4)
    await browser.visit(visited.board.url + visited.pages[name])
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    await browser.call("Emulation.setEmulatedMedia", media="print", features=dark)

    found = await browser.script(PAPER)
    text = str(await browser.script("main.innerText"))
    await browser.call("Emulation.setEmulatedMedia", media="", features=[])

    assert found == {"wide": True, "hidden": True, "closed": 0, "paper": "rgb(253, 253, 252)"}
    assert [one for one in SAID[name] if one not in text and one not in CLICKED] == []


CLICKED = {"on →", "Filter", "Preview a redrive", "choose none"}
