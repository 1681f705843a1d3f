"""The page at /schema in a real browser: it needs no network, and requests can be tried; patterns are ECMAScript's."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from contracts import ids
from infra.http.idempotency_key import PATTERN as KEY
from tests.browser.chromium import Chromium, chromium
from tests.shop import Shop


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    """A browser that finds nothing but this machine."""
    async with chromium(tmp_path / "profile", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as browser:
        yield browser


SEEN = "new Promise(r => { const look = () => (f => f ? r(true) : setTimeout(look, 20))(%s); look() })"
"""JavaScript that waits until an expression gives something."""


async def seen(browser: Chromium, expression: str) -> None:
    await browser.script(SEEN % expression)


@pytest.mark.parametrize("service", ["order", "product", "point", "coupon"])
async def test_the_page_shows_every_route_without_a_network(shop: Shop, browser: Chromium, service: str) -> None:
    document = (await shop.get(service, "/schema/openapi.json")).json()
    await browser.visit("about:blank")
    await browser.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="window.refused = []; addEventListener('securitypolicyviolation', e => refused.push(e.blockedURI))",
    )

    await browser.visit(shop.url(service, "/schema"))

    await seen(browser, "document.querySelector('.opblock')")
    shown = await browser.script("[...document.querySelectorAll('.opblock-summary')].map(e => e.innerText)")
    wanted = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert {tuple(text.replace("\u200b", "").split()[:2]) for text in shown} == wanted
    own = urlsplit(shop.url(service, ""))
    assert {urlsplit(url).netloc for url in browser.requested if url.startswith("http")} == {own.netloc}
    assert await browser.script("refused") == []


async def test_a_request_can_be_tried_on_the_page(shop: Shop, browser: Chromium) -> None:
    await browser.visit(shop.url("product", "/schema"))
    await seen(browser, "document.querySelector('.opblock-post .opblock-summary-control')")

    await browser.script(
        "[...document.querySelectorAll('.opblock-post')].find(e => /Register/.test(e.innerText))"
        ".querySelector('.opblock-summary-control').click()"
    )
    # The page draws the form again when it has the example: before that, a click would be lost.
    await seen(browser, "/mug/.test(document.querySelector('.body-param__text, .body-param textarea')?.value)")
    await seen(browser, "document.querySelector('.btn.execute')")
    await browser.script("document.querySelector('.btn.execute').click()")

    await seen(browser, "document.querySelector('.live-responses-table .response .response-col_status')")
    told = await browser.script(
        "document.querySelector('.live-responses-table .response .response-col_status').innerText"
    )
    assert told.split()[0] == "201"
    example = {"product_id": "mug", "name": "Mug", "price": 12_000, "available": 10}
    assert (await shop.get("product", "/products/mug")).json() == example


async def test_no_page_frames_it(shop: Shop, browser: Chromium) -> None:
    answer = await shop.get("order", "/schema")

    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy


IDS = ["mug", "a" * 64, "A_b-9", "", "a" * 65, "a b", "a.b", "mug\n", "\nmug", "a*", "키", ">"]
KEYS = ["k1", '"k1"', '"', '"k1', 'k1"', "k1\n", '"k1"\n', 'a"b', r'"a\"b"', r'"a\b"', '"a b"', "a b", "", "k" * 256]


async def test_a_pattern_means_to_a_browser_what_it_means_to_the_service(browser: Chromium) -> None:
    for pattern, samples in ((ids.PATTERN, IDS), (KEY, KEYS)):
        wanted = [re.search(pattern, sample) is not None for sample in samples]
        published = ids.ecma(pattern)
        for flags in ("", "u"):
            script = f"{json.dumps(samples)}.map(s => new RegExp({json.dumps(published)}, '{flags}').test(s))"
            assert await browser.script(script) == wanted


async def test_every_pattern_that_is_published_is_one_of_ecmascript(shop: Shop, browser: Chromium) -> None:
    await browser.visit("about:blank")
    for service in shop.services:
        document = (await shop.get(service, "/schema/openapi.json")).json()
        patterns = list(patterns_in(document))
        assert patterns
        compiled = f"{json.dumps(patterns)}.map(p => new RegExp(p, 'u').test('k1'))"
        assert len(await browser.script(compiled)) == len(patterns)
        assert all(pattern.endswith("$") for pattern in patterns)


def patterns_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        for one in value.values():
            yield from patterns_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from patterns_in(one)
