"""The dashboard in a real browser: what happens is seen as it happens, by keyboard too, and on a small screen."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, chromium
from tests.ops.boards import Board
from tests.shop import Shop

SEEN = "new Promise(r => { const look = () => (f => f ? r(f) : setTimeout(look, 20))(%s); look() })"
"""JavaScript that waits until an expression gives something."""

WATCH = (
    "window.refused = []; addEventListener('securitypolicyviolation', e => refused.push(e.blockedURI + e.sourceFile))"
)


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    """A browser that finds nothing but this machine, and notes what the pages' policy refuses."""
    async with chromium(tmp_path / "profile", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as browser:
        await browser.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        yield browser


@pytest.fixture
async def board(shop: Shop) -> Board:
    made = Board(shop)
    await made.start()
    return made


async def seen(browser: Chromium, expression: str) -> object:
    return await browser.script(SEEN % expression)


async def press(browser: Chromium, key: str, text: str = "") -> None:
    """Press a key, and release it."""
    code = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, " ": 32}.get(key, 0)
    more = {"text": text or ("\r" if key == "Enter" else key)} if len(key) == 1 or key == "Enter" else {}
    await browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **more)
    await browser.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)


async def resize(browser: Chromium, width: int, height: int = 800) -> None:
    await browser.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
    )


# The first screen -----------------------------------------------------------------------------------------------------


async def test_the_first_screen_lives_and_nothing_on_it_is_refused(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug")
    await browser.visit(f"{board.url}/")
    assert await seen(browser, "document.getElementById('sentence').innerText.startsWith('✓ All is well')")

    assert (await board.shop.place([("mug", 1)])).status_code == 200
    await seen(browser, "/accepted\\s+0\\.[1-9]/.test(document.getElementById('panel-rates').innerText)")
    await board.shop.kill("coupon")
    await seen(browser, "/coupon_svc .* cannot be reached/.test(document.getElementById('sentence').innerText)")
    await seen(browser, "document.getElementById('said').innerText.includes('coupon_svc')")

    assert await browser.script("refused") == []
    assert {url.split("/")[2] for url in browser.requested if url.startswith("http")} == {board.url.split("/")[2]}


async def test_what_is_focused_and_scrolled_stays_where_it_is(board: Board, browser: Chromium) -> None:
    await resize(browser, 1_000, 300)
    await browser.visit(f"{board.url}/")
    await browser.script("document.querySelector('#services [role=region]').focus(), scrollTo(0, 200)")
    before = await browser.script("scrollY")
    await browser.script("window.kept = document.activeElement")

    await seen(browser, "Number(main.dataset.events) >= 2")

    assert await browser.script("document.activeElement === kept && kept.isConnected")
    assert await browser.script("scrollY") == before


async def test_numbers_that_grow_old_are_marked_and_fresh_ones_come_after_a_restart(
    board: Board, browser: Chromium
) -> None:
    await browser.visit(f"{board.url}/")
    await seen(browser, "Number(main.dataset.events) >= 1")
    await board.shop.stop("dashboard")
    await seen(browser, "document.getElementById('age').classList.contains('stale')")
    events = await browser.script("Number(main.dataset.events)")

    await board.start()

    await seen(browser, f"Number(main.dataset.events) > {events}")
    await seen(browser, "!document.getElementById('age').classList.contains('stale')")


async def test_in_the_background_it_asks_for_nothing_and_goes_on_where_it_was(board: Board, browser: Chromium) -> None:
    await browser.visit(f"{board.url}/")
    await seen(browser, "Number(main.dataset.events) >= 1")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    turn = "document.dispatchEvent(new Event('visibilitychange'))"

    await browser.script(hide % "true" + turn)
    assert await browser.script("source === null")
    last = await browser.script("last")
    await browser.script(hide % "false" + turn)

    await seen(browser, f"Number(last) > {last}")
    assert any(f"/live?after={last}" in url for url in browser.requested)


async def test_times_are_shown_as_chosen_everywhere_and_remembered(board: Board, browser: Chromium) -> None:
    await browser.call("Emulation.setTimezoneOverride", timezoneId="Asia/Seoul")
    await browser.visit(f"{board.url}/")
    shown = "document.querySelector('#age time').innerText"
    assert (await browser.script(shown)).endswith(" UTC")

    await browser.script("document.querySelector('[data-times=local]').click()")
    assert (await browser.script(shown)).endswith(" +09:00")
    assert await browser.script("location.search") == "?times=local"
    await seen(browser, "Number(main.dataset.events) >= 1")
    assert (await browser.script(shown)).endswith(" +09:00")

    await browser.visit(f"{board.url}/")
    assert (await browser.script(shown)).endswith(" +09:00")
    await browser.visit(f"{board.url}/?times=ago")
    assert (await browser.script(shown)).endswith(" ago")


async def test_a_small_screen_needs_no_sideways_scrolling(board: Board, browser: Chromium) -> None:
    await board.shop.kill("point")
    await resize(browser, 390)
    await browser.visit(f"{board.url}/")

    assert await browser.script("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


async def test_without_javascript_the_page_says_the_same(board: Board, browser: Chromium) -> None:
    await browser.call("Emulation.setScriptExecutionDisabled", value=True)
    await browser.visit(f"{board.url}/")

    found = await browser.call("DOM.getDocument", depth=-1)
    html = (await browser.call("DOM.getOuterHTML", nodeId=found["root"]["nodeId"]))["outerHTML"]
    assert "All is well" in html
    assert 'class="scripted"' not in html


async def test_the_keys_are_told_and_lead_to_what_they_say(board: Board, browser: Chromium) -> None:
    await browser.visit(f"{board.url}/")

    await press(browser, "?")
    assert await browser.script("document.getElementById('help').open")
    await press(browser, "Enter")
    assert not await browser.script("document.getElementById('help').open")
    await press(browser, "/")
    assert await browser.script("document.activeElement.id") == "find"
    assert await browser.script("document.activeElement.value") == ""
