"""What holds on every page of the dashboard: times are shown as chosen."""

import re

import pytest

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
