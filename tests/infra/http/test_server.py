"""What goes over the wire: an answer's parts, and answers to what is no request."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import pytest
from litestar import post
from litestar.params import JSONBody

from infra.http.app import build_app
from infra.http.server import CoalescingTransport, RequestPacer, Server
from tests.shop import PATIENCE_S


class Wire:
    """A transport that notes what is done to it."""

    def __init__(self) -> None:
        self.noted: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.noted.append(data)

    def close(self) -> None:
        self.noted.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.noted


async def a_turn() -> None:
    """Returns when whatever was to be called soon has been."""
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


def gathered(wire: Wire) -> CoalescingTransport:
    return CoalescingTransport(cast(asyncio.Transport, wire), asyncio.get_running_loop())


async def test_what_is_written_in_one_turn_goes_out_together_and_in_order() -> None:
    wire = Wire()
    transport = gathered(wire)

    transport.write(b"head ")
    transport.write(b"body")
    assert wire.noted == []
    await a_turn()
    transport.write(b"next")
    await a_turn()

    assert wire.noted == [b"head body", b"next"]


async def test_nothing_written_is_lost_when_the_connection_is_closed_at_once() -> None:
    wire = Wire()
    transport = gathered(wire)

    transport.write(b"last words")
    transport.close()
    await a_turn()

    assert wire.noted == [b"last words", "closed"]
    assert transport.is_closing()


# A crowd --------------------------------------------------------------------------------------------------------------


class Loop:
    """An event loop of which the test makes each turn."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        now, self.soon = self.soon, []
        for callback in now:
            callback()


def test_a_limited_number_begins_in_a_turn_and_the_others_in_the_next_turns_in_order() -> None:
    begun: list[int] = []
    loop = Loop()
    pacer = RequestPacer(cast(asyncio.AbstractEventLoop, loop), a_turn=3)

    for number in range(7):
        pacer.begin(partial(begun.append, number))
    seen = [len(begun)]
    while loop.soon:
        loop.turn()
        seen.append(len(begun))

    assert seen == [3, 6, 7, 7]
    assert begun == list(range(7))


def test_a_later_request_does_not_overtake_and_shares_the_turn() -> None:
    begun: list[str] = []
    loop = Loop()
    pacer = RequestPacer(cast(asyncio.AbstractEventLoop, loop), a_turn=2)

    for name in ("a", "b", "c"):
        pacer.begin(partial(begun.append, name))
    loop.turn()
    for name in ("d", "e"):
        pacer.begin(partial(begun.append, name))
    assert begun == ["a", "b", "c", "d"]
    loop.turn()
    assert begun == ["a", "b", "c", "d", "e"]
    while loop.soon:
        loop.turn()
    for name in ("f", "g", "h"):
        pacer.begin(partial(begun.append, name))

    assert begun == ["a", "b", "c", "d", "e", "f", "g"]


def test_a_request_that_cannot_begin_stops_no_other() -> None:
    begun: list[str] = []
    loop = Loop()
    pacer = RequestPacer(cast(asyncio.AbstractEventLoop, loop), a_turn=1)
    broken: dict[str, None] = {}
    pacer.begin(partial(begun.append, "a"))
    pacer.begin(lambda: broken["b"])
    pacer.begin(partial(begun.append, "c"))

    with pytest.raises(KeyError):
        loop.turn()
    while loop.soon:
        loop.turn()

    assert begun == ["a", "c"]


async def test_a_connection_that_sends_nothing_is_closed_in_time() -> None:
    async with serving(keep_alive_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()


HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ECHO = HEAD + b"Connection: close\r\nContent-Length: 7\r\n\r\n"


async def test_everybody_in_a_crowd_is_answered(port: int) -> None:
    crowd = await asyncio.gather(*(answers(port, ECHO + b'{"n":%d}' % (number % 10)) for number in range(300)))

    assert [json.loads(body) for ((_, _, body),) in crowd] == [{"n": number % 10} for number in range(300)]


async def test_a_connection_too_many_is_closed_and_the_others_stay() -> None:
    async with serving(max_connections=2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 8\r\n\r\n")  # its body is still to come
        second, second_writer = await asyncio.open_connection("127.0.0.1", port)
        third, third_writer = await asyncio.open_connection("127.0.0.1", port)

        assert await third.read() == b""
        writer.write(b'{"n": 1}')
        assert (await reader.readline()).startswith(b"HTTP/1.1 201")
        assert not second.at_eof()
        for each in (writer, second_writer, third_writer):
            each.close()


# What is no request ---------------------------------------------------------------------------------------------------


@post("/echo")
async def echo(data: JSONBody[dict[str, int]]) -> dict[str, int]:
    return data


async def ready() -> list[str]:
    return []


@contextlib.asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[int]:
    """Where a server listens that echoes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(build_app("test_svc", [echo], ready), **limits)
        running = asyncio.create_task(server.serve([listener]))
        yield int(listener.getsockname()[1])
        server.should_exit = True
        await running


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving() as port:
        yield port


async def answers(port: int, *said: bytes) -> list[tuple[bytes, dict[str, str], bytes]]:
    """Status line, headers and body of all that is answered until the server closes the connection.

    What is said next is said when the first answer begins.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    first = b""
    for part in said:
        writer.write(part)
        if part is not said[-1]:
            first += await reader.readexactly(1)
    rest = first + await reader.read()
    writer.close()
    found = []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = dict(line.decode().lower().split(": ") for line in lines)
        length = int(headers["content-length"])
        found.append((status, headers, rest[:length]))
        rest = rest[length:]
    return found


def question(body: bytes = b"{}", *headers: bytes) -> bytes:
    return HEAD + b"\r\n".join([*(headers or [b"Content-Length: %d" % len(body)]), b"", body])


NOT_REQUESTS = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a1"),
    "an unknown method": question().replace(b"POST", b"TAKE"),
    "another version": question().replace(b"HTTP/1.1", b"HTTP/9.9"),
    "a header without a name": question(b"", b": nameless"),
    "a length that is none": question(b"{}", b"Content-Length: two"),
    "two lengths": question(b"{}", b"Content-Length: 2", b"Content-Length: 3"),
    "two framings": question(b"{}", b"Content-Length: 2", b"Transfer-Encoding: chunked"),
    "a broken chunk": question(b"so much\r\n{}", b"Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("said", NOT_REQUESTS.values(), ids=NOT_REQUESTS)
async def test_what_is_no_request_gets_a_problem_and_the_connection_is_closed(port: int, said: bytes) -> None:
    ((status, headers, body),) = await answers(port, said)

    assert status == b"HTTP/1.1 400 Bad Request"
    assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == ("/problems/malformed-request", 400)
    assert problem["title"]
    assert problem["detail"]


async def test_a_request_that_was_answered_before_keeps_its_answer(port: int) -> None:
    first, second = await answers(port, question(b'{"a":1}'), b"hello\r\n\r\n")

    assert (first[0], first[2]) == (b"HTTP/1.1 201 Created", b'{"a":1}')
    assert second[0] == b"HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize("count", [1, 3])
async def test_requests_that_still_wait_get_their_own_answers_and_none_that_is_not_theirs(
    port: int, count: int
) -> None:
    requests = [question(b'{"a":%d}' % number) for number in range(count)]

    given = await answers(port, b"".join(requests) + b"hello\r\n\r\n")

    assert [body for _, _, body in given] == [b'{"a":%d}' % number for number in range(count)]
    assert given[-1][1]["connection"] == "close"


async def test_a_body_that_breaks_behind_a_request_that_waits_gets_no_answer(port: int) -> None:
    broken = NOT_REQUESTS["a broken chunk"]

    assert await answers(port, question() + broken) == []
