"""What goes over the wire: one answer for each request in its turn, a refusal for the rest, bounds on all."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from litestar import get, post
from litestar.params import JSONBody

from infra.http.connection import UNSENT_BYTES
from infra.listening import INHERITED
from tests.infra.http.framing_cases import CHUNKED, HIDDEN, REFUSED, TWO, UPGRADE
from tests.infra.http.wire import LARGE, answers, parsed, question, serving
from tests.shop import PATIENCE_S, attempts


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving() as port:
        yield port


class Gate:
    """A route that answers when it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

        @post("/gate")
        async def gate(data: JSONBody[dict[str, int]]) -> dict[str, int]:
            self.reached.set()
            await self.opened.wait()
            return data

        self.route = gate


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), PATIENCE_S)


CLOSE = b"Connection: close"
LAST = question(b'{"n":7}', CLOSE, b"Content-Length: 7")

# Requests and answers -------------------------------------------------------------------------------------------------


async def test_everybody_in_a_crowd_is_answered(port: int) -> None:
    crowd = await asyncio.gather(
        *(answers(port, LAST.replace(b'"n":7', b'"n":%d' % (number % 10))) for number in range(300))
    )

    assert [json.loads(body) for ((_, _, body),) in crowd] == [{"n": number % 10} for number in range(300)]


@pytest.mark.parametrize("data", [data for data, _ in REFUSED.values()], ids=REFUSED)
async def test_what_is_no_request_gets_a_problem_and_the_connection_is_closed(port: int, data: bytes) -> None:
    ((status, headers, body),) = await answers(port, data)

    assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
    assert "date" in headers
    problem = json.loads(body)
    assert status.split()[1] == b"%d" % problem["status"]
    assert problem["type"].startswith("/problems/")
    assert problem["title"]
    assert problem["detail"].endswith("the connection is closed")


async def test_a_request_that_was_answered_before_keeps_its_answer(port: int) -> None:
    first, second = await answers(port, question(b'{"a":1}'), b"hello\r\n\r\n")

    assert (first[0], first[2]) == (b"HTTP/1.1 201 Created", b'{"a":1}')
    assert second[0] == b"HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_requests_that_still_wait_get_their_own_answers_before_a_refusal(port: int, count: int) -> None:
    requests = [question(b'{"a":%d}' % number) for number in range(count)]

    *given, refusal = await answers(port, b"".join(requests) + b"hello\r\n\r\n")

    assert [body for _, _, body in given] == [b'{"a":%d}' % number for number in range(count)]
    assert refusal[0] == b"HTTP/1.1 400 Bad Request"


@pytest.mark.parametrize(
    "upgrade", [UPGRADE, (b"Connection: upgrade", b"Upgrade: websocket")], ids=["h2c", "websocket"]
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_the_body_of_a_request_that_asks_for_another_protocol_is_its_body(
    port: int, upgrade: tuple[bytes, ...], at_once: bool
) -> None:
    body = b'{"n":1, %s}' % (b'"x":2,' * 20 + b'"y":3')
    head = question(b"", *upgrade, b"Content-Length: %d" % len(body))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    for part in [head + body] if at_once else [head, body]:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    writer.write(LAST)
    (first, second) = parsed(await to_the_end(reader))
    writer.close()

    assert (first[0], json.loads(first[2])) == (b"HTTP/1.1 201 Created", {"n": 1, "x": 2, "y": 3})
    assert json.loads(second[2]) == {"n": 7}


@pytest.mark.parametrize("limits", [{"last_request_s": PATIENCE_S}, {}], ids=["asked for", "socket held by a starter"])
async def test_a_request_on_its_way_when_the_server_stops_is_answered_and_is_the_last(
    limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.http.server.LAST_REQUEST_S", PATIENCE_S)
    monkeypatch.setenv(INHERITED, "3")
    async with serving(**limits) as port:
        kept, new = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        kept[1].write(question(b'{"n":1}', b"Content-Length: 7"))
        await kept[0].readuntil(b'{"n":1}')
        port.server.should_exit = True
        await until_refused(port)

        for reader, writer in (kept, new):
            writer.write(question(b'{"n":2}', b"Content-Length: 7"))

            ((_, headers, body),) = parsed(await to_the_end(reader))
            writer.close()
            assert (headers["connection"], body) == ("close", b'{"n":2}')


@pytest.mark.parametrize("last_request_s", [0.0, 0.2])
async def test_a_connection_without_a_request_ends_with_the_server(last_request_s: float) -> None:
    async with serving(last_request_s=last_request_s) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        port.server.should_exit = True
        assert await to_the_end(reader) == b""
        writer.close()


async def until_refused(port: int) -> None:
    """Returns when nobody listens there any more."""
    async for _ in attempts("the server to stop listening"):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        writer.close()


async def test_a_request_in_a_body_is_never_a_request(port: int) -> None:
    """The body comes in a segment of its own, after the server has seen the head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(question(b"", *UPGRADE, b"Expect: 100-continue", b"Content-Length: %d" % len(HIDDEN)))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(HIDDEN)
    writer.write(LAST)

    first, second = parsed(await to_the_end(reader))
    writer.close()

    assert (first[0], json.loads(first[2])["type"]) == (b"HTTP/1.1 400 Bad Request", "/problems/malformed-request")
    assert json.loads(second[2]) == {"n": 7}


async def test_a_body_that_is_not_wanted_is_refused_before_it_is_sent(port: int) -> None:
    ((status, _, _),) = await answers(port, question(b"", b"Expect: 100-continue", b"Content-Length: 99999"))

    assert status.startswith(b"HTTP/1.1 413 ")


async def test_a_refusal_reaches_a_client_that_sends_all_it_has_first(port: int) -> None:
    """Unread bytes would make the kernel reset the connection, and the client would not see why."""
    ((status, _, _),) = await answers(port, question(b"x" * (4 << 20), b"Content-Length: %d" % (4 << 20)))

    assert status.startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_closes_its_side_after_asking_gets_its_answers() -> None:
    gate = Gate()
    async with serving(gate.route) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(question(b'{"n":1}').replace(b"/echo", b"/gate") + question(b'{"n":2}'))
        writer.write_eof()
        await gate.reached.wait()
        assert not reader.at_eof()
        gate.opened.set()

        assert [body for _, _, body in parsed(await to_the_end(reader))] == [b'{"n":1}', b'{"n":2}']
        writer.close()


@pytest.mark.parametrize(
    "part", [b"GET", question(b"{", TWO), question(b"5\r\n{", CHUNKED)], ids=["head", "body", "chunk"]
)
async def test_a_request_that_ends_early_is_refused(port: int, part: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(part)
    writer.write_eof()

    ((status, _, _),) = parsed(await to_the_end(reader))
    writer.close()

    assert status == b"HTTP/1.1 400 Bad Request"


# Bounds ---------------------------------------------------------------------------------------------------------------


async def test_a_connection_that_sends_nothing_is_closed_in_time() -> None:
    async with serving(keep_alive_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        assert await to_the_end(reader) == b""
        writer.close()


@pytest.mark.parametrize(
    "part", [b"G", question(b"{", TWO), question(b"5\r\n{", CHUNKED)], ids=["head", "body", "chunk"]
)
async def test_a_request_that_has_begun_has_a_deadline(part: bytes) -> None:
    async with serving(request_s=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(part)

        ((status, headers, body),) = parsed(await to_the_end(reader))
        writer.close()

    assert status == b"HTTP/1.1 408 Request Timeout"
    assert (headers["connection"], json.loads(body)["type"]) == ("close", "/problems/request-timeout")


async def test_a_byte_now_and_then_does_not_move_the_deadline() -> None:
    async with serving(request_s=0.5) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nX-A: ")
        end = asyncio.create_task(to_the_end(reader))
        while not end.done():  # the client never stops by itself
            writer.write(b"a")
            await asyncio.wait([end], timeout=0.05)

        assert (await end).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_a_request_that_waits_for_its_answer_has_no_deadline_here() -> None:
    gate = Gate()
    async with serving(gate.route, request_s=0.05, keep_alive_s=0.05) as port:
        asking = asyncio.create_task(answers(port, LAST.replace(b"/echo", b"/gate")))
        await gate.reached.wait()
        for _ in range(3):  # others expire meanwhile
            assert await answers(port, b"G")
        gate.opened.set()

        ((status, _, _),) = await asking
        assert status.startswith(b"HTTP/1.1 201 ")


GET_LARGE = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"


def connected(port: int) -> socket.socket:
    """A client that has room for a few bytes only, so that what the server cannot send stays with the server."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 10)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


async def test_a_client_that_does_not_read_its_answers_is_read_no_further() -> None:
    asked = 0

    @post("/count")
    async def count(data: JSONBody[dict[str, int]]) -> bytes:
        nonlocal asked
        asked += 1
        return LARGE

    async with serving(count) as port:
        with connected(port) as client:
            sent = 0
            for turn in range(200):
                with contextlib.suppress(BlockingIOError):
                    while turn < 100:
                        sent += client.send(question().replace(b"/echo", b"/count") * 100)
                ((status, _, _),) = await answers(port, LAST)  # another client is answered meanwhile
                assert status.startswith(b"HTTP/1.1 201 ")
                if turn == 100:
                    settled = asked

            assert asked == settled
            assert settled * len(LARGE) < 16 << 20  # what the kernel has room for, not what was asked for
            assert sent < 16 << 20


async def test_a_client_that_takes_no_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.http.connection.ANSWER_S", 0.05)
    async with serving() as port:
        with connected(port) as client:
            client.send(GET_LARGE * 200)
            while not await answers(port, LAST) or port.server.server_state.connections:
                pass  # another client is answered all the time


async def test_asking_again_does_not_move_the_deadline_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.http.connection.ANSWER_S", 1)

    @get("/huge", media_type="text/plain")
    async def huge() -> bytes:
        return LARGE * 40

    async with serving(huge) as port, asyncio.timeout(PATIENCE_S):
        with connected(port) as client:
            client.send(GET_LARGE.replace(b"large", b"huge"))
            connections: set[Any] = port.server.server_state.connections
            while not any(not connection.writable.is_set() for connection in connections):
                await answers(port, LAST)
            client.send(GET_LARGE)

            while not await answers(port, LAST) or connections:
                pass


async def test_an_idle_client_that_has_not_taken_the_end_of_its_answer_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infra.http.connection.ANSWER_S", 0.05)

    asked = 0

    @get("/part", media_type="text/plain")
    async def part() -> bytes:
        nonlocal asked
        asked += 1
        return b"x" * (UNSENT_BYTES // 2)

    async with serving(part) as port, asyncio.timeout(PATIENCE_S):
        with connected(port) as client:
            connections: set[Any] = port.server.server_state.connections
            while not (mine := [each for each in connections if each._scope_of_all["client"] == client.getsockname()]):
                await answers(port, LAST)
            sent = unsent = 0
            while not unsent:
                client.send(GET_LARGE.replace(b"large", b"part"))
                sent += 1
                while asked < sent or mine[0]._exchange is not None:
                    await answers(port, LAST)
                await answers(port, LAST)  # meanwhile the kernel takes what it has room for
                unsent = mine[0]._transport.get_write_buffer_size()
            assert unsent <= UNSENT_BYTES  # so the connection counts as idle
            port.server._limit.waits(mine[0], 0)  # the keep-alive time is over

            while not await answers(port, LAST) or connections:
                pass


async def test_an_answer_that_is_taken_slowly_arrives_whole(port: int) -> None:
    with connected(port) as client:
        client.send(
            b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 20
            + b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(sock=client.dup(), limit=UNSENT_BYTES)

        taken = parsed(await to_the_end(reader))
        writer.close()

    assert [body for _, _, body in taken] == [LARGE] * 21


# A limit of connections -----------------------------------------------------------------------------------------------


async def test_connections_that_wait_for_their_clients_shut_nobody_out() -> None:
    gate = Gate()
    async with serving(gate.route, max_connections=4) as port:
        asking = asyncio.create_task(answers(port, LAST.replace(b"/echo", b"/gate")))
        await gate.reached.wait()
        holders = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in holders:
            writer.write(b"GET / HTT")

        assert (await answers(port, LAST))[0][0].startswith(b"HTTP/1.1 201 ")
        gate.opened.set()
        assert (await asking)[0][0].startswith(b"HTTP/1.1 201 ")
        ended = [await to_the_end(reader) for reader, _ in holders[:16]]
        for _, writer in holders:
            writer.close()

    assert ended == [b""] * 16


async def test_a_connection_too_many_is_closed_when_all_others_have_requests_to_answer() -> None:
    gate = Gate()
    with structlog.testing.capture_logs() as logged:
        async with serving(gate.route, max_connections=2) as port:
            asking = [asyncio.create_task(answers(port, LAST.replace(b"/echo", b"/gate")))]
            await gate.reached.wait()
            gate.reached.clear()
            asking.append(asyncio.create_task(answers(port, LAST.replace(b"/echo", b"/gate"))))
            await gate.reached.wait()
            for _ in range(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert await to_the_end(reader) == b""
                writer.close()
            gate.opened.set()
            assert [(await each)[0][2] for each in asking] == [b'{"n":7}'] * 2

    lines: list[Any] = [line for line in logged if "limit" in line]
    assert [(line["log_level"], line["limit"], line["new_refused"]) for line in lines] == [("warning", 2, 1)]
    assert "ulimit -n" in lines[0]["next_step"]


async def test_one_address_has_so_many_connections_and_the_next_one_is_closed() -> None:
    async with serving(per_address=2) as port:
        first, second = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        first[1].close()
        await first[1].wait_closed()

        async for _ in attempts("the place to be free"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                writer.write(question(b"{}"))
                assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
                break
        writer.close()
        second[1].close()
