"""What an app sends goes out as one answer that every client reads alike, or not at all."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from infra.http.exchange import Exchange
from infra.http.framing import HttpRequest

App = Callable[[Any, Any, Any], Awaitable[None]]


class Wire:
    """A connection that notes what is done to it."""

    def __init__(self) -> None:
        self.noted: list[bytes | str] = []
        self.writable = asyncio.Event()
        self.writable.set()

    def write(self, data: bytes) -> None:
        self.noted.append(data)

    def close(self) -> None:
        self.noted.append("closed")

    def answered(self) -> None:
        self.noted.append("answered")


def exchange(wire: Wire, method: str = "GET", version: str = "1.1", *, keep_alive: bool = True) -> Exchange:
    request = HttpRequest(method, b"/", version, [], bytearray(b"asked"), keep_alive)
    return Exchange(wire, request, {"type": "http", "path": "/", "state": {}}, [(b"date", b"now")])


def app(*parts: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> App:
    """An app that sends this head, and these parts of a body."""

    async def answer(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for number, part in enumerate(parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})

    return answer


def length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


async def test_an_answer_is_one_write() -> None:
    wire = Wire()

    await exchange(wire).run(app(b"body", headers=(length(b"body"),)))

    assert wire.noted == [b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 4\r\n\r\nbody", "answered"]


async def test_an_answer_of_unknown_length_is_chunked() -> None:
    wire = Wire()

    await exchange(wire).run(app(b"one", b"", b"last"))

    assert wire.noted == [
        b"HTTP/1.1 200 OK\r\ndate: now\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n",
        b"4\r\nlast\r\n0\r\n\r\n",
        "answered",
    ]


async def test_to_a_client_of_http_1_0_it_ends_with_the_connection() -> None:
    wire = Wire()

    await exchange(wire, version="1.0").run(app(b"one", b"last"))

    assert wire.noted == [
        b"HTTP/1.1 200 OK\r\ndate: now\r\nconnection: close\r\n\r\none",
        b"last",
        "closed",
        "answered",
    ]


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [("HEAD", 200, (length(b"body"),)), ("HEAD", 200, ()), ("GET", 204, ()), ("GET", 304, ())],
)
async def test_what_has_no_body_has_none(method: str, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    wire = Wire()

    await exchange(wire, method).run(app(b"body" if method == "HEAD" else b"", status=status, headers=headers))

    (written, answered) = wire.noted
    assert isinstance(written, bytes)
    assert written.endswith(b"\r\n\r\n")
    assert b"chunked" not in written
    assert answered == "answered"


@pytest.mark.parametrize("by", ["client", "app"])
async def test_the_connection_is_closed_after_the_answer_if_either_side_asks(by: str) -> None:
    wire = Wire()
    headers = (length(b"x"), (b"connection", b"Close")) if by == "app" else (length(b"x"),)

    await exchange(wire, keep_alive=by == "app").run(app(b"x", headers=headers))

    assert wire.noted == [
        b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx",
        "closed",
        "answered",
    ]


async def raising(_: Any, __: Any, ___: Any) -> None:
    raise ZeroDivisionError


async def silent(_: Any, __: Any, ___: Any) -> None:
    pass


async def body_first(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.body", "body": b"x"})


@pytest.mark.parametrize(
    "wrong",
    [
        raising,
        silent,
        body_first,
        app(),
        app(b"longer", headers=(length(b"long"),)),
        app(b"short", headers=(length(b"longer"),)),
        app(b"x", headers=((b"x-name", b"a\r\nset-cookie: b"), length(b"x"))),
        app(b"x", headers=((b"x-name: a\r\nset-cookie", b"b"), length(b"x"))),
        app(b"x", headers=((b"x-name", b"a\nb"), length(b"x"))),
        app(b"x", headers=((b"", b"a"), length(b"x"))),
    ],
)
async def test_a_wrong_answer_is_a_500_as_long_as_nothing_is_written(wrong: App) -> None:
    wire = Wire()

    await exchange(wire).run(wrong)

    written, *ends = wire.noted
    assert isinstance(written, bytes)
    assert written.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"/problems/internal-error" in written
    assert b"set-cookie" not in written
    assert ends == ["closed", "answered"]


@pytest.mark.parametrize(
    "wrong",
    [
        app(b"12", b"345", headers=(length(b"1234"),)),
        app(b"12", b"3", headers=(length(b"1234"),)),
        app(b"1", b"2", b"3", headers=(length(b"12"),)),
    ],
)
async def test_an_answer_that_goes_wrong_later_ends_the_connection(wrong: App) -> None:
    wire = Wire()

    await exchange(wire).run(wrong)

    assert wire.noted[-1] == "closed"
    assert "answered" not in wire.noted


async def test_an_app_that_is_stopped_ends_the_connection() -> None:
    wire = Wire()
    never = asyncio.Event()

    async def waits(_: Any, __: Any, ___: Any) -> None:
        await never.wait()

    task = asyncio.create_task(exchange(wire).run(waits))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert wire.noted == ["closed"]


@pytest.mark.parametrize("lost", [True, False])
async def test_the_request_is_received_once_and_then_its_end(lost: bool) -> None:
    wire = Wire()
    one = exchange(wire)

    assert await one.receive() == {"type": "http.request", "body": b"asked", "more_body": False}
    rest = asyncio.create_task(one.receive())
    await asyncio.sleep(0)
    assert not rest.done()
    if lost:
        one.disconnect()
    await one.run(app(b"x", headers=(length(b"x"),)))

    assert await rest == {"type": "http.disconnect"}
    assert await one.receive() == {"type": "http.disconnect"}
    assert (wire.noted == []) == lost


async def test_a_part_waits_until_the_client_takes_what_is_written() -> None:
    wire = Wire()
    wire.writable.clear()

    task = asyncio.create_task(exchange(wire).run(app(b"x", headers=(length(b"x"),))))
    await asyncio.sleep(0)
    assert wire.noted == []
    wire.writable.set()
    await task

    assert wire.noted[-1] == "answered"


async def test_an_error_after_the_answer_does_not_close_the_connection_under_the_next_request() -> None:
    wire = Wire()
    whole = app(b"x", headers=(length(b"x"),))

    async def fails_late(scope: Any, receive: Any, send: Any) -> None:
        await whole(scope, receive, send)
        raise ZeroDivisionError

    await exchange(wire).run(fails_late)

    assert wire.noted[1:] == ["answered"]
