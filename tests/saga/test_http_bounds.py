"""A client without manners costs a service little memory, and no other client an answer."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.shop import PATIENCE_S, Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
LIST = b"GET /products?limit=200 HTTP/1.1\r\nHost: shop\r\n\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(open_all_day: Shop) -> Shop:
    """200 products with long names: a list of them has 60 KiB."""
    for number in range(200):
        body = {"product_id": f"p{number:03}", "name": "n" * 200, "price": 1, "stock": 1}
        (await open_all_day.post("product", "/products", body)).raise_for_status()
    return open_all_day


def peak(shop: Shop) -> int:
    """The most memory that product_svc has had, in bytes."""
    status = Path(f"/proc/{shop.processes['product'].pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


@contextlib.asynccontextmanager
async def beside(*attacks: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do the body while the attacks go on."""
    tasks = [asyncio.create_task(attack) for attack in attacks]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Attacker:
    """Sends without reading, on one connection after another, as much as the service takes."""

    def __init__(self, shop: Shop) -> None:
        self._port = int(shop.url("product", "").rpartition(":")[2])
        self.sent = 0

    async def send(self, first: bytes, then: bytes) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(ConnectionError), socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", self._port))
                await loop.sock_sendall(client, first)
                while True:
                    await loop.sock_sendall(client, then)
                    self.sent += len(then)


async def until(shop: Shop, enough: Callable[[], bool] = lambda: True) -> None:
    """Ask 200 times as another client, and more until the attack has gone far enough."""
    answered = 0
    async with asyncio.timeout(PATIENCE_S):
        while answered < 200 or not enough():
            assert (await shop.get("product", "/products?limit=1")).status_code == 200
            answered += 1


async def test_a_head_without_end_costs_no_memory_and_nobody_waits(shop: Shop) -> None:
    attacker = Attacker(shop)
    before = peak(shop)
    async with beside(attacker.send(b"GET / HTTP/1.1\r\nX-A: ", b"a" * 65_536)):
        await until(shop, lambda: attacker.sent > 64 * MIB)

    assert peak(shop) - before < 16 * MIB


async def test_a_body_without_end_costs_no_memory_and_nobody_waits(shop: Shop) -> None:
    attacker = Attacker(shop)
    before = peak(shop)
    head = b"POST /products HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with beside(attacker.send(head, (b"1;" + b"a" * 900 + b"\r\na\r\n") * 70)):
        await until(shop, lambda: attacker.sent > 4 * MIB)

    assert peak(shop) - before < 16 * MIB


async def test_answers_that_are_not_read_cost_little_memory_and_nobody_waits(shop: Shop) -> None:
    connections = 40
    attackers = [Attacker(shop) for _ in range(connections)]
    before = peak(shop)
    async with beside(*(attacker.send(b"", LIST * 200) for attacker in attackers)):
        await until(shop)

    assert peak(shop) - before < 32 * MIB  # the answers to what a buffer of 1 MiB has room for: 1 GiB a connection
