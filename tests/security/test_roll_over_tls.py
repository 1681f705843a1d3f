"""`just roll` of a system that asks for tokens and speaks TLS: no order fails, and no connection is refused or lost."""

import asyncio
import ssl
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner

from infra.auth.authorities import authorities
from infra.auth.development import development_key, mint
from infra.auth.token_file import TOKEN_FILE
from ops.orders import orders as program
from ops.token import AUDIENCE, ISSUER
from tests.e2e.processes import run, started
from tests.e2e.test_up import READY
from tests.ops.asking import orders
from tests.shop import JSON, PATIENCE_S, Shop, attempts

CUSTOMERS = 4


def settings(folder: Path) -> dict[str, Any]:
    """What `just keys` says."""
    assert CliRunner(env={"DATA_DIR": str(folder)}).invoke(program, ["keys"]).exit_code == 0
    lines = (folder / "auth" / "environment").read_text().splitlines()
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


class Load:
    """Customers who order one thing after the other, on a kept connection and on new ones in turn, until `closing`."""

    def __init__(self, shop: Shop, known: ssl.SSLContext) -> None:
        self._url = shop.url("order", "/orders")
        self._known = known
        self._key = development_key(shop.folder)
        self.closing = asyncio.Event()
        self.answers: Counter[int] = Counter()

    def bearer(self, user: str, scope: str = "") -> dict[str, str]:
        token = mint(self._key, {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "scope": scope}, 600)
        return JSON | {"Authorization": f"Bearer {token}"}

    async def customer(self, user: str) -> None:
        headers, number = self.bearer(user), 0
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, verify=self._known) as kept:
            while not self.closing.is_set():
                number += 1
                await self._order(kept, headers | {"Idempotency-Key": f"{user}-{number}"})
                async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, verify=self._known) as new:
                    await self._order(new, headers | {"Idempotency-Key": f"{user}-{number}-new"})

    async def _order(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        body = b'{"lines":[{"product_id":"mug","quantity":1}],"points":0,"coupon_id":null}'
        while True:
            answer = await http.post(self._url, content=body, headers=headers)
            self.answers[answer.status_code] += 1
            if answer.status_code != 503:
                assert answer.status_code in (200, 202), answer.text
                return
            await asyncio.sleep(float(answer.headers["Retry-After"]))


async def test_a_roll_under_load_fails_no_order_and_loses_no_connection(tmp_path: Path) -> None:
    shop = Shop(tmp_path, **settings(tmp_path))
    known = authorities(shop.env)
    load = Load(shop, known)
    with started("infra.local.up", env=shop.env, folder=tmp_path) as up:
        await up.prints(READY)
        async with httpx.AsyncClient(trust_env=False, verify=known) as http:
            product = {"product_id": "mug", "name": "Mug", "price": 100, "stock": 1_000_000}
            headers = load.bearer("merchant", "products:write")
            made = await http.post(shop.url("product", "/products"), json=product, headers=headers)
            assert made.status_code == 201
        async with asyncio.TaskGroup() as group:
            for number in range(CUSTOMERS):
                group.create_task(load.customer(f"u{number}"))
            async for _ in attempts("orders before the roll"):
                if load.answers[200] > CUSTOMERS:
                    break
            rolled = await run("infra.local.roll", env=shop.env)
            before = load.answers[200]
            async for _ in attempts("orders after the roll"):
                if load.answers[200] > before + CUSTOMERS:
                    break
            load.closing.set()
        assert (rolled.returncode, rolled.stderr) == (0, ""), up.output
        assert set(load.answers) <= {200, 202, 503}

        status = await orders(shop, "status")
        assert status.returncode == 0, status.stdout
        without = await orders(shop, "status", **{TOKEN_FILE: ""})
        assert without.returncode != 0
    await shop.http.aclose()
