"""Behind an authenticating proxy of Go's standard library, nobody orders as somebody else."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from infra.local.services import ROOT
from tests.infra.http.framing_cases import UPGRADE
from tests.infra.http.wire import Answered, parsed
from tests.shop import PATIENCE_S, Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROXY = ROOT / "tests" / "saga" / "authenticating_proxy.go"
WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket")
HOST = b"Host: localhost"
JSON_BODY = b"Content-Type: application/json"
ORDER = b'{"lines":[{"product_id":"mug","quantity":1}]}'


@pytest.fixture(scope="module")
def proxy_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("proxy") / "proxy"
    go = shutil.which("go")
    assert go is not None, "Go is missing; CONTRIBUTING.md says what the tests need"
    subprocess.run([go, "build", "-o", program, PROXY], check=True, env={**os.environ, "GO111MODULE": "off"})
    return program


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(open_all_day: Shop) -> Shop:
    await open_all_day.register("mug")
    return open_all_day


@pytest.fixture
def proxy(proxy_program: Path, shop: Shop) -> Iterator[int]:
    """The port of a proxy before order_svc."""
    process = subprocess.Popen([proxy_program, shop.url("order", "")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    yield reader, writer
    writer.close()


def request(user: str, body: bytes, *headers: bytes) -> bytes:
    """The head of an order of `user` with this body, for the proxy."""
    lines = [b"POST /orders HTTP/1.1", HOST, b"Authorization: Bearer " + user.encode(), JSON_BODY, *headers]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", b""])


def smuggled(number: int) -> bytes:
    """An order of ann, as order_svc would take it from the proxy."""
    lines = [b"POST /orders HTTP/1.1", HOST, b"X-User-Id: ann", b"Idempotency-Key: smuggled-%d" % number]
    return b"\r\n".join([*lines, JSON_BODY, b"Content-Length: %d" % len(ORDER), b"", ORDER])


async def answer_of(reader: asyncio.StreamReader) -> Answered:
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
        (answer,) = parsed(head + await reader.readexactly(int(length.split()[1])))
        return answer


async def ask(port: int, user: str, body: bytes, *headers: bytes) -> Answered:
    """Send the head, and the body when the proxy has had time to pass the head on."""
    async with connected(port) as (reader, writer):
        writer.write(request(user, body, *headers))
        await writer.drain()
        await asyncio.sleep(0.02)  # more or less does not matter: each try is another one
        writer.write(body)
        return await answer_of(reader)


@pytest.mark.parametrize("upgrade", [UPGRADE, WEBSOCKET], ids=["h2c", "websocket"])
async def test_an_order_in_the_body_of_an_order_is_nobodys(shop: Shop, proxy: int, upgrade: tuple[bytes, ...]) -> None:
    for number in range(40):
        status, _, body = await ask(proxy, "mallory", smuggled(number), *upgrade)
        assert (status, json.loads(body)["type"]) == (b"HTTP/1.1 400 Bad Request", "/problems/malformed-request")
        status, _, body = await ask(proxy, "bob", ORDER, b"Idempotency-Key: of-bob")
        assert status == b"HTTP/1.1 200 OK"

    assert (await shop.get("order", "/orders", user="ann")).json()["orders"] == []


async def test_a_client_that_asks_for_http_2_is_served_through_the_proxy(shop: Shop, proxy: int) -> None:
    status, _, body = await ask(proxy, "cleo", ORDER, *UPGRADE)

    assert (status, json.loads(body)["status"]) == (b"HTTP/1.1 200 OK", "CONFIRMED")
    assert len((await shop.get("order", "/orders", user="cleo")).json()["orders"]) == 1


async def test_who_the_proxy_says_counts_whoever_the_client_says(shop: Shop, proxy: int) -> None:
    status, _, _ = await ask(proxy, "dora", ORDER, b"X-User-Id: ann", b"X-User-Id: ann")

    assert status == b"HTTP/1.1 200 OK"
    assert len((await shop.get("order", "/orders", user="dora")).json()["orders"]) == 1
    assert (await shop.get("order", "/orders", user="ann")).json()["orders"] == []
