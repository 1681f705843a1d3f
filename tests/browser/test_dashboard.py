"""The dashboard in a real browser: what happens is seen as it happens, by keyboard too, and on a small screen."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.browser.chromium import PATIENCE_S, Chromium, ScriptFailed, chromium
from tests.ops.boards import Board
from tests.saga.test_dead_letters import say, until_parked
from tests.shop import Shop, attempts

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


CUTS = """
addEventListener("DOMContentLoaded", () => {
  const cut = document.getElementById("cut");
  if (cut) sessionStorage.seen = (sessionStorage.seen || "") + cut.innerText[0];
});
"""
"""JavaScript that notes which moments of an order were shown."""


async def until(browser: Chromium, expression: str) -> None:
    """Wait until an expression is true in the page, also if it is another page then."""
    async for _ in attempts(expression):
        with contextlib.suppress(ScriptFailed, AssertionError):  # between two pages there is none
            if await browser.script(f"Boolean({expression})"):
                return


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
    await browser.script("document.querySelector('#services [role=group]').focus(), scrollTo(0, 200)")
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


# An order -------------------------------------------------------------------------------------------------------------

FACTS = "[...document.querySelectorAll('#facts tbody th')].map(e => e.innerText).join(' ')"


async def placed_without(board: Board, service: str, points: int = 0, coupon: str | None = None) -> str:
    """The id of an order that waits, because this service is stopped."""
    shop = board.shop
    await shop.kill(service)
    shop.env["ORDER_WAIT_S"] = "0.001"
    await shop.stop("order")
    await shop.start("order")
    answer = await shop.place([("mug", 1)], points=points, coupon=coupon)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["order_id"])


async def test_the_steps_of_an_order_appear_as_they_happen(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug")
    order_id = await placed_without(board, "point")
    await browser.visit(f"{board.url}/orders/{order_id}")
    waits = "document.getElementById('waits').innerText"
    await seen(browser, f"/point_svc to hear product.reserved and to say point.used/.test({waits})")
    assert str(await browser.script(FACTS)).split() == [
        *("order.created.pending", "product.reserved", "point.used", "coupon.used", "order.confirmed")
    ]
    assert await browser.script("document.querySelectorAll('.lifelines .pending').length") == 3
    await browser.script("document.querySelector('#each details').open = true")
    await board.shop.kill("coupon")

    await board.shop.start("point")
    await seen(browser, f"/coupon_svc to hear point.used/.test({waits})")
    assert await browser.script("document.querySelectorAll('.lifelines .pending').length") == 2
    await board.shop.start("coupon")

    await seen(browser, "document.getElementById('status').innerText === 'confirmed'")
    assert await browser.script("document.querySelectorAll('.lifelines .pending').length") == 0
    assert await browser.script("document.querySelector('#each details').open"), "what was opened stays open"
    assert await browser.script("finished && source === null")
    assert await browser.script("refused") == []


async def test_a_refusal_and_what_is_taken_back_are_named_and_coloured(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug")
    order_id = (await board.shop.place([("mug", 1)], coupon="none")).json()["order_id"]
    await board.shop.until_ended(order_id)
    await browser.visit(f"{board.url}/orders/{order_id}")

    assert await browser.script("document.getElementById('status').innerText") == "canceled and compensated"
    assert "product.released (taken back)" in str(await browser.script(FACTS))
    assert "coupon.use.failed (stopped)" in str(await browser.script(FACTS))
    colour = "getComputedStyle(document.querySelector('.lifelines .undone .name')).fill"
    red, green, blue = map(int, str(await browser.script(colour))[4:-1].split(","))
    assert red > 2 * max(green, blue)


async def test_a_broker_that_restarts_leaves_no_hole_and_no_double(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug")
    order_id = await placed_without(board, "coupon")
    await browser.visit(f"{board.url}/orders/{order_id}")
    await seen(browser, "/coupon_svc to hear/.test(document.getElementById('waits').innerText)")

    await board.shop.kill("nats")
    await seen(browser, "/cannot be read/.test(document.getElementById('trouble')?.innerText)")
    assert "order.created.pending" in str(await browser.script(FACTS))
    await board.shop.start_nats()
    await board.shop.start("coupon")

    await seen(browser, "document.getElementById('status').innerText === 'confirmed'")
    assert await browser.script("document.getElementById('trouble')") is None
    assert str(await browser.script(FACTS)).split() == [
        *("order.created.pending", "product.reserved", "point.used", "coupon.used", "order.confirmed")
    ]


async def test_a_dashboard_that_restarts_goes_on_by_the_events_id(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug")
    order_id = await placed_without(board, "coupon")
    await browser.visit(f"{board.url}/orders/{order_id}")
    await seen(browser, "source && source.readyState === EventSource.OPEN")
    last = int(str(await browser.script("last")))

    await board.shop.stop("dashboard")
    await board.shop.start("coupon")
    await board.shop.until_ended(order_id)
    await board.start()

    await seen(browser, "document.getElementById('status').innerText === 'confirmed'")
    assert int(str(await browser.script("last"))) > last


async def test_the_moments_of_an_order_are_reached_by_keys_and_have_an_address(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug")
    order_id = (await board.shop.place([("mug", 1)])).json()["order_id"]
    await browser.visit(f"{board.url}/orders/{order_id}")
    cut = "document.getElementById('cut').innerText"

    async def pressed(key: str) -> object:
        browser.loaded.clear()
        await press(browser, key)
        await asyncio.wait_for(browser.loaded.wait(), PATIENCE_S)
        return await browser.script(cut)

    assert await browser.script(cut) == "5 of 5 facts"
    assert await pressed("ArrowLeft") == "4 of 5 facts"
    assert await browser.script("location.search") == "?at=nocoupon@1"
    assert await pressed("Home") == "1 of 5 facts"
    assert await pressed("ArrowRight") == "2 of 5 facts"
    assert await browser.script("document.querySelectorAll('#states h3').length") == 2
    assert await pressed("End") == "5 of 5 facts"
    assert await browser.script("location.search") == ""
    assert await browser.script("document.querySelectorAll('#states h3').length") == 4


COPIED = "window.copies = []; navigator.clipboard.writeText = async text => copies.push(text)"
"""JavaScript that notes what would be copied."""


async def test_commands_and_links_are_copied(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug")
    order_id = (await board.shop.place([("mug", 1)])).json()["order_id"]
    address = f"{board.url}/orders/{order_id}"
    await browser.visit(f"{address}?at=order@1")
    await browser.script(COPIED)

    await browser.script("document.querySelector('#each details').open = true")
    for wanted in ("#each [data-copy^=nats]", "#each-reservation\\\\@1 [data-copy-link]", ".foot [data-copy-link]"):
        await browser.script(f"document.querySelector('{wanted}').click()")

    stored, moment, page = list(await browser.script("copies"))
    assert stored.startswith("nats stream get EVENTS ")
    assert (moment, page) == (f"{address}?at=reservation@1", f"{address}?at=order@1")
    await seen(browser, "document.querySelector('.foot [data-copy-link]').innerText === 'copy a link to this page'")


async def test_the_moments_of_an_order_are_played_to_the_end_or_until_it_is_stopped(
    board: Board, browser: Chromium
) -> None:
    await board.shop.register("mug")
    order_id = (await board.shop.place([("mug", 1)])).json()["order_id"]
    await browser.call("Page.addScriptToEvaluateOnNewDocument", source=CUTS)
    await browser.visit(f"{board.url}/orders/{order_id}")

    await browser.script("document.getElementById('play').click()")
    await until(browser, "sessionStorage.seen === '512345' && document.getElementById('play')?.innerText === 'play'")
    assert await browser.script("location.search") == ""

    await browser.script("document.getElementById('play').click()")
    await until(browser, "document.getElementById('cut')?.innerText === '2 of 5 facts'")
    await browser.script("document.getElementById('play').click()")
    assert await browser.script("document.getElementById('play').innerText") == "play"
    assert await browser.script("sessionStorage.play") is None


# Lists ----------------------------------------------------------------------------------------------------------------


async def test_new_orders_wait_behind_a_pill_and_no_row_moves(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug", stock=100)
    for _ in range(3):
        assert (await board.shop.place([("mug", 1)])).status_code == 200
    await board.shop.until_quiet()
    await browser.visit(f"{board.url}/orders")
    rows = "[...document.querySelectorAll('#orders tbody tr')].map(e => e.id).join()"
    before = await browser.script(rows)

    for _ in range(2):
        assert (await board.shop.place([("mug", 1)])).status_code == 200
    await seen(browser, "document.getElementById('new').innerText === '2 new: show them'")
    assert await browser.script(rows) == before

    browser.loaded.clear()
    await browser.script("document.getElementById('new').click()")
    await asyncio.wait_for(browser.loaded.wait(), PATIENCE_S)
    assert len(str(await browser.script(rows)).split(",")) == 5


async def test_rows_are_walked_by_keys_and_opened(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug", stock=100)
    ids = [(await board.shop.place([("mug", 1)])).json()["order_id"] for _ in range(2)]
    await board.shop.until_quiet()
    await browser.visit(f"{board.url}/orders?user_id=u1")

    await press(browser, "j")
    assert await browser.script("document.activeElement.innerText") == ids[1]
    await press(browser, "j")
    assert await browser.script("document.activeElement.innerText") == ids[0]
    await press(browser, "k")
    assert await browser.script("location.hash") == f"#order-{ids[1]}"
    browser.loaded.clear()
    await press(browser, "Enter")
    await asyncio.wait_for(browser.loaded.wait(), PATIENCE_S)
    assert await browser.script("location.pathname") == f"/orders/{ids[1]}"

    hidden = "[...document.querySelectorAll('#in-list a')].filter(e => !e.hidden).map(e => e.innerText).join()"
    assert await browser.script(hidden) == "the list,next"
    browser.loaded.clear()
    await browser.script("document.getElementById('list-next').click()")
    await asyncio.wait_for(browser.loaded.wait(), PATIENCE_S)
    assert await browser.script("location.pathname") == f"/orders/{ids[0]}"
    assert await browser.script(hidden) == "the list,previous"
    back = f"{board.url}/orders?user_id=u1#order-{ids[0]}"
    assert await browser.script("document.getElementById('list-back').href") == back

    await browser.visit("about:blank")
    await browser.visit(back)
    picked = "[...document.querySelectorAll('tr[aria-current]')].map(e => e.id).join()"
    assert await browser.script(picked) == f"order-{ids[0]}"
    await press(browser, "j")
    assert await browser.script(picked) == f"order-{ids[0]}", "it is the last row"
    await press(browser, "k")
    assert await browser.script(picked) == f"order-{ids[1]}"


async def test_a_row_that_was_picked_stays_picked_when_the_page_is_drawn_again(board: Board, browser: Chromium) -> None:
    await board.shop.register("mug")
    order_id = await placed_without(board, "point")
    await browser.visit(f"{board.url}/orders/{order_id}#%")
    await seen(browser, "source && source.readyState === EventSource.OPEN")
    await browser.visit("about:blank")
    await browser.visit(f"{board.url}/orders/{order_id}#fact-reservation%401")
    picked = "document.querySelector('tr[aria-current]').id"
    await seen(browser, "document.querySelector('#waits .wait')")
    assert await browser.script(picked) == "fact-reservation@1"

    await board.shop.start("point")
    await seen(browser, "document.getElementById('status').innerText === 'confirmed'")

    assert await browser.script(picked) == "fact-reservation@1"
    assert await browser.script("document.querySelectorAll('tr[aria-current]').length") == 1


# Dead letters ---------------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_redriven_by_keyboard_alone(board: Board, browser: Chromium) -> None:
    shop = board.shop
    shop.env |= {"ORDER_WAIT_S": "0.2", "ORDER_DEADLINE_S": "5", "ALLERGIC_TO": '"points":13'}
    for name in ("order", "point"):
        await shop.stop(name)
    await shop.start("order")
    await shop.start("point", wrapper="allergic")
    await shop.register("mug")
    await shop.charge("u1", 100)
    order_id = (await shop.place([("mug", 1)], points=13)).json()["order_id"]
    await until_parked(shop, 2)
    await shop.stop("point")
    await shop.start("point")
    await browser.visit(f"{board.url}/dead-letters")

    async def tab_to(wanted: str) -> None:
        """Press Tab until what has the focus has this text."""
        for _ in range(40):
            await press(browser, "Tab")
            focus = "document.activeElement"
            if wanted in str(await browser.script(f"{focus}.innerText || {focus}.labels?.[0]?.innerText || ''")):
                return
        raise AssertionError(wanted)

    async def entered() -> None:
        browser.loaded.clear()
        await press(browser, "Enter")
        await asyncio.wait_for(browser.loaded.wait(), PATIENCE_S)

    await tab_to("Preview a redrive")
    await entered()
    assert "would succeed" in str(await browser.script("main.innerText"))
    await tab_to("reason")
    for letter in "mended":
        await press(browser, letter)
    await tab_to("Redrive 1 key")
    await entered()

    await seen(browser, "/The redrive is over: 1 done/.test(document.getElementById('sentence').innerText)")
    assert (await shop.until_ended(order_id))["compensated"]
    assert await browser.script("refused") == []


async def test_all_or_none_of_a_group_are_chosen(board: Board, browser: Chromium) -> None:
    for heard in ("product.reserved", "point.used"):
        for key in ("o1", "o2"):
            await say(board.shop, f"{heard}.{key}", b"\xff")
    found = {(one.consumer, one.key) for one in await until_parked(board.shop, 4)}
    assert len({consumer for consumer, _ in found}) == 2
    await browser.visit(f"{board.url}/dead-letters")
    chosen = "[...document.querySelectorAll('main form')].map(f => f.querySelectorAll('[name=key]:checked').length)"
    assert await browser.script(chosen) == [2, 2]

    await browser.script("document.querySelector('[data-choose=none]').click()")
    assert await browser.script(chosen) == [0, 2]
    await browser.script("document.querySelector('[data-choose=all]').click()")
    assert await browser.script(chosen) == [2, 2]


async def test_hostile_subjects_and_errors_are_text(board: Board, browser: Chromium) -> None:
    evil = "<img/src=x/onerror=alert(1)>"
    await say(board.shop, f"product.reserved.{evil}", b"\xff")
    await until_parked(board.shop, 1)

    await browser.visit(f"{board.url}/dead-letters")

    assert evil in str(await browser.script("document.querySelector('#letter-1').innerText"))
    assert await browser.script("document.querySelectorAll('main img').length") == 0
    await browser.script("document.querySelector('#letter-1 a').click()")
    for path in ("/find?q=", "/orders?user_id=", "/orders?status=", "/orders/"):
        await browser.visit(f"{board.url}{path}{quote(evil, safe='')}")
        assert await browser.script("document.querySelectorAll('main img').length") == 0
    assert await browser.script("refused") == []
