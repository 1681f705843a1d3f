"""A real browser on this machine visits a page of somebody else: it can neither change nor read the shop."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.browser.chromium import PATIENCE_S, Chromium, chromium
from tests.saga.asking import records
from tests.shop import Shop

EVIL = "attacker.example"


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    """A browser whose DNS says that the attacker's name is this machine, as it does after a DNS rebinding."""
    async with chromium(tmp_path / "profile", f"MAP {EVIL} 127.0.0.1") as browser:
        yield browser


def asks(method: str, url: str, **options: object) -> str:
    """JavaScript: what a page gets of a request; `opaque` for an answer that it may not read."""
    wish = json.dumps({"method": method, **options})
    return (
        f"fetch({json.dumps(url)}, {wish})"
        ".then(async r => r.type === 'opaque' ? 'opaque' : r.status + ' ' + await r.text(), e => 'failed')"
    )


BODIES = [
    ("product", "/products", {"product_id": "evil", "name": "Evil", "price": 1, "stock": 1}),
    ("coupon", "/coupons", {"coupon_id": "evil", "user_id": "u1", "discount": 9, "expires_at": "2099-01-01T00:00:00Z"}),
    ("product", "/ops/views/catalog/rebuild", None),
    ("coupon", "/ops/views/wallet/rebuild", None),
]


async def test_a_page_of_another_origin_changes_nothing(shop: Shop, browser: Chromium) -> None:
    before = records(shop)
    await browser.visit(f"http://{EVIL}/", "<h1>a page</h1>")

    for service, path, body in BODIES:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
            options = {} if body is None else {"body": json.dumps(body), "headers": {"Content-Type": kind}}
            for mode in ("no-cors", "cors"):
                told = await browser.script(asks("POST", shop.url(service, path), mode=mode, **options))
                assert told in ("opaque", "failed")

    await shop.until_quiet()
    assert records(shop) == before
    assert (await shop.get("product", "/products/evil")).status_code == 404
    assert (await shop.get("coupon", "/coupons/evil")).status_code == 404


async def test_a_form_of_another_origin_changes_nothing(shop: Shop, browser: Chromium) -> None:
    await browser.visit(
        f"http://{EVIL}/",
        f"<form method=post enctype=text/plain action='{shop.url('product', '/products')}'>"
        """<input name='{"product_id":"evil","name":"x' value='","price":1,"stock":1}'></form>""",
    )

    browser.loaded.clear()
    await browser.script("document.forms[0].submit()")

    await asyncio.wait_for(browser.loaded.wait(), PATIENCE_S)
    assert shop.url("product", "/products") in browser.requested
    assert (await shop.get("product", "/products")).json()["products"] == []


@pytest.mark.parametrize("service", ["order", "product", "point", "coupon"])
async def test_a_page_that_rebinds_its_name_reads_and_changes_nothing(
    shop: Shop, browser: Chromium, service: str
) -> None:
    await shop.register("secret")
    before = records(shop)
    origin = shop.url(service, "").replace("127.0.0.1", EVIL)
    await browser.visit(f"{origin}/", "<h1>the same origin as the service, to the browser</h1>")

    for path in ("/products", "/ops/orders", "/points/u1", "/coupons?user_id=u1", "/metrics", "/schema/openapi.json"):
        assert (await browser.script(asks("GET", path))).startswith("421 ")
    for owner, path, body in BODIES:
        options = {} if body is None else {"body": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        if owner == service:
            assert (await browser.script(asks("POST", path, **options))).startswith("421 ")

    await shop.until_quiet()
    assert records(shop) == before


async def test_the_broker_answers_no_page(shop: Shop, browser: Chromium) -> None:
    """It listens on one port only, which speaks no HTTP. On its monitoring port it would answer any page."""
    events = len(await shop.events())
    port = int(shop.env["NATS_PORT"])
    sockets = psutil.Process(shop.processes["nats"].pid).net_connections("tcp")
    assert {socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN} == {port}

    await browser.visit(f"http://{EVIL}:{port}/", "<h1>a page</h1>")
    for mode in ("cors", "no-cors"):
        for body in ("PUB point.charged.u1 2\r\n{}\r\n", "CONNECT {}\r\nPUB point.charged.u1 2\r\n{}\r\n"):
            assert await browser.script(asks("POST", "/", mode=mode, body=body)) == "failed"

    assert len(await shop.events()) == events


async def test_a_page_of_the_service_itself_can_use_it(shop: Shop, browser: Chromium) -> None:
    await browser.visit(shop.url("product", "/healthz"))

    body = json.dumps({"product_id": "mug", "name": "Mug", "price": 1, "stock": 1})
    told = await browser.script(asks("POST", "/products", body=body, headers={"Content-Type": "application/json"}))

    assert told.startswith("201 ")
    assert await browser.script(asks("GET", "/products/mug")) == f"200 {told[4:]}"
