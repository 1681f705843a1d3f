"""No command waits long without a word: every wait is bounded, and its error names who does not answer."""

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from infra.local.services import ROOT
from ops.client import ATTEMPTS, ServiceAddress, ServiceRequest, ask_with, http_client
from ops.errors import Unreachable
from tests.ops.asking import orders
from tests.shop import PATIENCE_S, Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

READING = [
    ["trace", "some-order"],
    ["trace", "some-order", "--follow"],
    ["dlq", "ls"],
    ["dlq", "show", "1"],
    ["dlq", "redrive", "--all"],
    ["dlq", "drop", "1"],
    ["replay"],
    ["replay", "--to", "nats://127.0.0.1:{port}"],
    ["backup", "{folder}/backup"],
    ["audit"],
]
"""Commands that ask the broker."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A shop that has sold something; every test leaves it running."""
    async with open_shop(tmp_path_factory.mktemp("shop")) as opened:
        await opened.register("mug")
        await opened.charge("u1", 1_000)
        await opened.issue("c1", "u1")
        assert (await opened.place([("mug", 1)], points=10, coupon="c1")).status_code == 200
        await opened.until_quiet()
        yield opened


@contextlib.asynccontextmanager
async def listening(*says: bytes, greeting: bytes = b"") -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each request with the next of these, and then is silent; yields its port and what it heard.

    `greeting`: what it says before it hears anything.
    """
    heard: list[bytes] = []
    left = list(says)
    open_ones: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while left:
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(left.pop(0))
            await reader.read()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones[asyncio.create_task(serve(reader, writer))] = writer

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        for writer in open_ones.values():
            writer.close()
        await asyncio.gather(*open_ones, *(one.wait_closed() for one in open_ones.values()), return_exceptions=True)


def answer(status: str, body: bytes = b"{}", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


# Services -------------------------------------------------------------------------------------------------------------

BUSY = answer("503 Service Unavailable", b'{"title":"busy","detail":"too \\u001b[2J much"}', "Retry-After: 0\r\n")


async def asked(port: int, timeout_s: float = PATIENCE_S) -> dict[str, object]:
    async with http_client() as http:
        request = ServiceRequest(ServiceAddress("point", f"http://127.0.0.1:{port}"), "GET", "/points/u1")
        return (await ask_with(http, request, timeout_s=timeout_s)).body


async def test_a_service_that_is_busy_for_a_moment_is_asked_again() -> None:
    async with listening(BUSY, BUSY, answer("200 OK", b'{"balance":7}')) as (port, heard):
        assert await asked(port) == {"balance": 7}
        assert len(heard) == 3


async def test_one_that_stays_busy_is_named_with_its_own_words() -> None:
    async with listening(*[BUSY] * (ATTEMPTS + 1)) as (port, heard):
        with pytest.raises(Unreachable) as raised:
            await asked(port)
        assert len(heard) == ATTEMPTS
    told = f"point_svc at http://127.0.0.1:{port} answers GET /points/u1 with 503: busy: too \\x1b[2J much"
    assert str(raised.value).startswith(told)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ([], "has not answered GET /points/u1 within 0.2 s"),
        ([answer("200 OK", b"{}")[:-1]], "has not answered GET /points/u1 within 0.2 s"),
        ([answer("500 Internal Server Error", b'{"detail":"a bug"}')], "with 500: a bug"),
        ([answer("503 Service Unavailable", b'{"detail":"asks for nothing"}')], "with 503: asks for nothing"),
        ([answer("200 OK", b"[]")], "as a service does"),
        ([answer("200 OK", b"\xff")], "as a service does"),
        ([answer("200 OK", b"[" * 100_000)], "as a service does"),
        ([b"INFO {}\r\n\r\n"], "as a service does"),
    ],
)
async def test_whatever_is_wrong_names_the_service(says: list[bytes], words: str) -> None:
    async with listening(*says) as (port, _):
        with pytest.raises(Unreachable) as raised:
            await asked(port, 0.2 if "0.2" in words else PATIENCE_S)
    assert str(raised.value).startswith(f"point_svc at http://127.0.0.1:{port} ")
    assert words in str(raised.value)


async def test_an_audit_names_the_service_that_hangs(shop: Shop) -> None:
    async with shop.paused("product"):
        done = await orders(shop, "audit", "--timeout", "1")

    assert done.returncode == 3
    assert f"product_svc at {shop.url('product', '')} has not answered GET /products/mug within 1 s" in done.stderr
    assert done.stderr.endswith("\n--timeout waits longer\n")
    assert "--answers 0" in done.stderr
    assert (await orders(shop, "audit")).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "asks"),
    [
        (["place", "--user", "u1", "mug:1", "--timeout", "1"], "order_svc at {order} has not answered POST /orders"),
        (["rebuild", "orders", "--timeout", "1"], "order_svc at {order} has not answered GET /ops/views"),
    ],
)
async def test_other_commands_name_it_too(shop: Shop, arguments: list[str], asks: str) -> None:
    async with shop.paused("order"):
        done = await orders(shop, *arguments)

    assert done.returncode == 3
    assert asks.format(order=shop.url("order", "")) in done.stderr
    assert done.stderr.endswith("\n--timeout waits longer\n")


async def test_progress_is_told_on_standard_error_only_if_it_is_asked_for(shop: Shop) -> None:
    quiet, told = await orders(shop, "audit", "--full"), await orders(shop, "audit", "--full", "--progress")

    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert told.returncode == 0
    assert "taking a cut\nchecking the files of the archive\nchecking, " in told.stderr
    assert "\nasking order_svc, product_svc, point_svc, coupon_svc, " in told.stderr
    assert "asking" not in told.stdout


# The broker -----------------------------------------------------------------------------------------------------------


async def all_of(shop: Shop, folder: Path, port: str) -> None:
    """Every command that asks a broker at this port names it, and ends with 3."""
    arguments = [[one.format(port=port, folder=folder) for one in command] for command in READING]
    done = await asyncio.gather(*(orders(shop, *command, NATS_PORT=port) for command in arguments))
    for command, one in zip(arguments, done, strict=True):
        assert one.returncode == 3, (command, one)
        assert f"the broker at 127.0.0.1:{port} cannot be read" in one.stderr, (command, one)
        assert "Traceback" not in one.stderr


async def test_every_command_names_a_broker_that_hangs(shop: Shop, tmp_path: Path) -> None:
    async with shop.paused("nats"):
        await all_of(shop, tmp_path, shop.env["NATS_PORT"])
    await shop.until_quiet()


@pytest.mark.parametrize("greeting", [b"", b'INFO {"max_payload":1048576,"headers":true,"version":"2.15.1"}\r\n'])
async def test_every_command_names_one_that_says_nothing(shop: Shop, tmp_path: Path, greeting: bytes) -> None:
    async with listening(greeting=greeting) as (port, _):
        await all_of(shop, tmp_path, str(port))


@contextlib.asynccontextmanager
async def running(shop: Shop, *arguments: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "ops.orders", *arguments],
        cwd=ROOT,
        env={**os.environ, **shop.env, "PYTHONUNBUFFERED": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def until(stream: asyncio.StreamReader | None, text: bytes) -> None:
    assert stream is not None
    async with asyncio.timeout(PATIENCE_S):
        while text not in (line := await stream.readline()):
            assert line, f"ended without {text!r}"


async def end_of(process: asyncio.subprocess.Process) -> tuple[int, str]:
    async with asyncio.timeout(PATIENCE_S):
        _, errors = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in errors
    return process.returncode, errors.decode()


async def test_a_broker_that_begins_to_hang_meanwhile_is_named(shop: Shop) -> None:
    order_id = (await shop.place([("mug", 1)])).json()["order_id"]
    async with running(shop, "trace", order_id, "--follow") as following:
        await until(following.stdout, b"order.confirmed")
        async with shop.paused("nats"):
            code, errors = await end_of(following)
    assert code == 3
    assert f"the broker at 127.0.0.1:{shop.env['NATS_PORT']} cannot be read" in errors
    assert re.search("has not answered for some seconds|did not answer in time", errors)  # its pings, or a request
    await shop.until_quiet()


# Stores ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked_store(tmp_path: Path) -> Iterator[Shop]:
    """Four empty stores, the point store of which somebody has locked so that nobody can read it."""
    shop = Shop(tmp_path)
    with contextlib.ExitStack() as stack:
        for name in shop.services:
            (tmp_path / name).mkdir()
            store = sqlite3.connect(tmp_path / name / "events.sqlite", isolation_level=None)
            stack.callback(store.close)
            store.execute("CREATE TABLE stored_events (originator_id, originator_version, topic, state)")
            if name == "point":
                store.execute("BEGIN EXCLUSIVE")
        yield shop


@pytest.mark.parametrize("arguments", [["at", "user", "u1"], ["what-if"]])
async def test_a_locked_store_is_named(locked_store: Shop, arguments: list[str]) -> None:
    done = await orders(locked_store, *arguments)

    assert done.returncode == 3
    path = locked_store.folder / "point" / "events.sqlite"
    assert f"the log of point_svc cannot be read: {path}: database is locked" in done.stderr
    assert "end that program" in done.stderr


# The end --------------------------------------------------------------------------------------------------------------


async def test_ctrl_c_is_no_finding_and_no_traceback(shop: Shop) -> None:
    async with (
        shop.paused("product"),
        running(shop, "audit", "--full", "--progress", "--timeout", "60") as auditing,
    ):
        await until(auditing.stderr, b"asking order_svc")
        auditing.send_signal(signal.SIGINT)
        assert await end_of(auditing) == (130, "stopped\n")


@pytest.mark.parametrize(("option", "end"), [([], (130, "stopped\n")), (["--follow"], (0, ""))])
async def test_only_a_trace_that_follows_is_complete_at_ctrl_c(
    shop: Shop, option: list[str], end: tuple[int, str]
) -> None:
    connected = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            connected.set()
            await reader.read()  # the broker says nothing

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as broker:
        port = broker.sockets[0].getsockname()[1]
        async with running(shop, "trace", "o1", *option, NATS_PORT=str(port)) as tracing:
            await asyncio.wait_for(connected.wait(), PATIENCE_S)
            tracing.send_signal(signal.SIGINT)
            assert await end_of(tracing) == end


@pytest.mark.parametrize("arguments", [["replay"], ["flow"], ["--help"]])
@pytest.mark.parametrize(("output", "code"), [("gone", 141), ("/dev/full", 2), ("closed", 0)])
async def test_output_that_nobody_takes_is_no_finding_and_no_traceback(
    shop: Shop, arguments: list[str], output: str, code: int
) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # the pipe has no reader from the beginning
    command = ["sh", "-c", 'exec "$@" >&-', "sh"] if output == "closed" else []
    full = os.open("/dev/full", os.O_WRONLY)
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, sys.executable, "-m", "ops.orders", *arguments],
        cwd=ROOT,
        env={**os.environ, **shop.env, "PYTHONIOENCODING": "ascii"},
        stdout=writing if output == "gone" else full,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    os.close(full)

    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == code, done.stderr
    assert ("No space left on device" in done.stderr) == (output == "/dev/full")
