"""What keeps a demo from running is said in words, whichever part of its system is gone."""

import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from infra.local.own_system import OwnSystem
from ops import reading
from ops.client import ServiceAnswer
from ops.demo import witness
from ops.demo.cases import CASES
from ops.demo.crash import CrashDemo
from ops.demo.load import Clients
from ops.demo.orders import Demo
from ops.errors import Unreachable


class GoneSystem:
    """A system of which nothing runs any more."""

    def __init__(self, port: int) -> None:
        self.env = {"NATS_URL": f"nats://127.0.0.1:{port}"}
        self._url = f"http://127.0.0.1:{port}"

    def url(self, _: str) -> str:
        return self._url


@pytest.fixture
def gone() -> Iterator[OwnSystem]:
    with socket.socket() as taken:  # bound, but nothing listens
        taken.bind(("127.0.0.1", 0))
        yield cast(OwnSystem, GoneSystem(taken.getsockname()[1]))


async def opens_its_shop(system: OwnSystem) -> None:
    async with httpx.AsyncClient() as http:
        await CrashDemo(system)._open_shop(http)


async def reads_balances(system: OwnSystem) -> None:
    async with httpx.AsyncClient() as http:
        await CrashDemo(system)._balances(http, Clients(http, system.url("order")))


async def counts_messages(system: OwnSystem) -> None:
    await CrashDemo(system)._messages()


async def tells_the_flow(system: OwnSystem) -> None:
    await Demo(system, CASES).run()


@pytest.mark.parametrize("part", [opens_its_shop, reads_balances, counts_messages, tells_the_flow])
async def test_a_demo_whose_system_is_gone_says_what_cannot_be_reached(
    gone: OwnSystem, part: Callable[[OwnSystem], Coroutine[Any, Any, None]]
) -> None:
    with pytest.raises(Unreachable, match=r"cannot be (reached|read)"):
        await part(gone)


class DeafSystem(GoneSystem):
    """A system whose services end well, and publish nothing."""

    def stop_services(self) -> dict[str, int]:
        return {}


class Silent:
    """A broker without facts."""

    async def stream_info(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(config=SimpleNamespace(subjects=[]), state=SimpleNamespace(messages=0))

    async def flush(self) -> None:
        pass


@asynccontextmanager
async def silent(_: Mapping[str, str]) -> AsyncIterator[SimpleNamespace]:
    yield SimpleNamespace(nc=Silent(), js=Silent())


async def test_a_demo_that_gets_no_order_tells_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "stream", silent)
    monkeypatch.setattr(witness, "PATIENCE_S", 0.0)
    monkeypatch.setattr("ops.demo.orders.send", lambda *_: ServiceAnswer(503, {}, {}))
    demo = Demo(cast(OwnSystem, DeafSystem(1)), CASES)

    await demo.run()

    missing = [text for text in demo.wrong if "that are missing" in text]
    assert [text.partition(":")[0] for text in missing] == [f"order {number}" for number in range(1, len(CASES) + 1)]
