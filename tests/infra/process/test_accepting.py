"""When a service that is started anew takes connections from its starter's socket."""

import asyncio
import socket
from typing import Any

import pytest

from infra.listening import INHERITED
from infra.process.accepting import serve
from infra.process.service import _start

HELD = "3"
NO_END = float("inf")


class Accepting:
    """A server and a runtime: notes what the broker's trouble was when it began to serve."""

    def __init__(self, *troubles: str | None) -> None:
        """`troubles`: what the broker is asked for, one after another; the last one stays."""
        self.closing = asyncio.Event()
        self.broker = self
        self.asked: list[str | None] = []
        self.served: list[Any] = []
        self._troubles = troubles

    @property
    def trouble(self) -> str | None:
        self.asked.append(self._troubles[min(len(self.asked), len(self._troubles) - 1)])
        return self.asked[-1]

    async def serve(self, sockets: list[socket.socket]) -> None:
        self.served.append((sockets, list(self.asked)))


async def accept(found: Any, within_s: float) -> None:
    listener: Any = "the socket"
    await serve(found, listener, found, within_s)


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INHERITED, HELD)


async def test_it_serves_once_the_broker_is_no_trouble() -> None:
    found = Accepting("no session", "no session", None)

    await accept(found, NO_END)

    assert found.served == [(["the socket"], ["no session", "no session", None])]


async def test_after_its_time_it_serves_with_the_trouble() -> None:
    found = Accepting("no session")

    await accept(found, 0.0)

    assert found.served == [(["the socket"], ["no session"])]


async def test_a_process_that_is_to_end_leaves_the_queue_to_the_next_one() -> None:
    found = Accepting("no session")
    found.closing.set()

    await accept(found, NO_END)

    assert found.served == []


async def test_a_socket_of_its_own_is_served_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INHERITED)
    found = Accepting("no session")

    await accept(found, NO_END)

    assert found.served == [(["the socket"], [])]


async def test_the_tasks_of_a_process_have_it() -> None:
    async def ends() -> None:
        return

    found: Any = Accepting("no session")
    found.run, found.writer, found.views, found.tasks = ends, found, {}, []
    found.closing.set()

    await asyncio.gather(*_start(found, found, found))

    assert found.served == []
