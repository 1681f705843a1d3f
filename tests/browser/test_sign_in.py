"""Signing in, in a real browser: by keyboard alone, and without a violation of accessibility in either theme."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.auth.principal import OPS_READ
from tests.browser.chromium import Chromium, chromium
from tests.browser.test_accessibility import violations
from tests.browser.test_dashboard import WATCH, press, resize, seen, until
from tests.issuer import Issuer
from tests.ops.boards import Board
from tests.shop import Shop

ISSUER = Issuer("EdDSA")


@pytest.fixture
async def board(tmp_path: Path) -> AsyncIterator[Board]:
    """The dashboard of a system of which nothing runs: it says so to who is signed in."""
    settings: dict[str, Any] = ISSUER.settings(tmp_path / "keys.json")
    shop = Shop(tmp_path, **settings)
    try:
        made = Board(shop)
        await made.start()
        yield made
    finally:
        await shop.close()


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path / "profile", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as browser:
        await browser.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        yield browser


async def typed(browser: Chromium, text: str) -> None:
    await browser.call("Input.insertText", text=text)
    await press(browser, "Enter")


async def test_an_operator_signs_in_by_keyboard_and_is_led_to_the_page_that_was_asked_for(
    board: Board, browser: Chromium
) -> None:
    for theme in ("light", "dark"):
        await browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        for width in (390, 1_280):
            await resize(browser, width)
            await browser.visit(f"{board.url}/dead-letters")
            assert await browser.script("location.pathname") == "/sign-in"
            assert await violations(browser) == []

    assert await seen(browser, "document.activeElement.id === 'own'")
    await typed(browser, "garbage")
    await until(browser, "document.getElementById('why')?.innerText.includes('this is no token')")
    assert await violations(browser) == []

    await typed(browser, ISSUER.token(OPS_READ, sub="ann"))
    await until(browser, "location.pathname === '/dead-letters'")
    assert await browser.script("document.cookie") == ""
    await browser.visit(f"{board.url}/")
    await until(browser, "document.querySelector('.who')?.innerText.includes('ann, may only read')")
    assert await violations(browser) == []
    assert await browser.script("refused") == []
