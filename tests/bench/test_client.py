"""The load generator's HTTP, against a server that does as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from bench import client
from bench.client import Broken, closed_loop, open_loop

REQUEST = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    tasks: list[asyncio.Task[None]] = []

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await serve(reader, writer)
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(until_closed(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.gather(*tasks)


def answer(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d x\r\ncontent-type: x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


async def test_every_request_gets_its_own_answer_over_few_connections() -> None:
    connections = 0

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ")[1]
            whole = answer(path, 200 + int(path[1:]) % 2)
            for part in (whole[:20], whole[20:-1], whole[-1:]):  # as a slow network would
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)

    requests = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(50)]
    async with serving(echo) as url:
        got = await closed_loop(url, requests, clients=4)

    assert [given.body for given in got.answers] == [b"/%d" % number for number in range(50)]
    assert [given.status for given in got.answers] == [200, 201] * 25
    assert all(0 < given.after_s <= got.seconds for given in got.answers)
    assert connections == 4


async def test_an_open_loop_does_not_wait_for_answers_and_counts_from_when_a_request_was_due() -> None:
    arrived: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.append(writer)
        if len(arrived) == 5:  # the first is answered only now, with all the others
            for waiting in arrived:
                waiting.write(answer(b""))

    async with serving(hold) as url:
        got = await open_loop(url, [REQUEST] * 5, rate=200.0)

    after = [given.after_s for given in got.answers]
    assert after == sorted(after, reverse=True), "all were answered at once, the first one was due first"


async def test_in_an_open_loop_waiting_for_a_connection_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_CONNECTIONS", 1)
    gate = asyncio.Event()

    async def one_by_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await gate.wait()
            writer.write(answer(b""))

    async with serving(one_by_one) as url:
        running = asyncio.create_task(open_loop(url, [REQUEST] * 3, rate=1_000.0))
        asyncio.get_running_loop().call_later(0.05, gate.set)
        got = await running

    last = got.answers[-1]
    assert last.after_s > got.seconds - last.after_s, (
        "it waited for those before it for longer than it was sent after them"
    )


@pytest.mark.parametrize(
    ("says", "why"),
    [(b"", "closed"), (b"HTTP/1.1 200 OK\r\n\r\n", "without a length"), (b"HTTP/1.1 200 O", "closed")],
    ids=["nothing", "no length", "half an answer"],
)
async def test_what_is_no_answer_ends_the_load(says: bytes, why: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        writer.close()

    async with serving(serve) as url:
        with pytest.raises(Broken, match=why):
            await closed_loop(url, [REQUEST] * 3, clients=1)


async def test_silence_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE_S", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as url:
        with pytest.raises(Broken, match="3 are missing"):
            await closed_loop(url, [REQUEST] * 3, clients=3)
