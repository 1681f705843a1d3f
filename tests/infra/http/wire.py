"""Requests as bytes, a server that echoes, and clients that send bytes to it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from litestar import get, post
from litestar.params import JSONBody

from infra.http.app import build_app
from infra.http.durations import RequestDurations
from infra.http.server import Server

Answered = tuple[bytes, dict[str, str], bytes]
"""Status line, headers and body."""

LARGE = b"x" * (200 << 10)
"""The answer of GET /large."""


@post("/echo")
async def echo(data: JSONBody[dict[str, int]]) -> dict[str, int]:
    return data


@get("/large", media_type="text/plain")
async def large() -> bytes:
    return LARGE


async def ready() -> list[str]:
    return []


class Port(int):
    """Where `server` listens."""

    server: Server


@contextlib.asynccontextmanager
async def serving(*routes: Any, durations: RequestDurations | None = None, **limits: Any) -> AsyncIterator[Port]:
    """Where a server listens that echoes, and has these routes too."""
    shown = [echo, large, *routes]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = build_app("test_svc", shown, ready, allowed_hosts=["test", "x"], durations=durations)
        server = Server(app, **limits)
        running = asyncio.create_task(server.serve([listener]))
        port = Port(listener.getsockname()[1])
        port.server = server
        yield port
        server.should_exit = True
        await running


async def answers(port: int, *said: bytes) -> list[Answered]:
    """All that is answered until the server closes the connection.

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
    return parsed(rest)


def parsed(rest: bytes) -> list[Answered]:
    found = []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = dict(line.decode().lower().split(": ") for line in lines)
        length = int(headers["content-length"])
        found.append((status, headers, rest[:length]))
        rest = rest[length:]
    return found


def question(body: bytes = b"{}", *headers: bytes, line: bytes = b"POST /echo HTTP/1.1", host: bool = True) -> bytes:
    framed = headers or [b"Content-Length: %d" % len(body)]
    named = [b"Host: test"] if host else []
    return b"\r\n".join([line, *named, b"Content-Type: application/json", *framed, b"", body])
