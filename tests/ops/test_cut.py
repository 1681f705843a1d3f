"""A cut goes as far as the causes of what is within it."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest_asyncio
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo, StreamState

from contracts.wire import NAMES, POSITION
from infra.broker import generations
from infra.broker.client import VERSION_LINE, BrokerClient, MessageCallback
from infra.broker.numbering import EVENTS
from infra.broker.stored import ANSWERED_BY
from infra.store.records import Record
from infra.store.sqlite import SQLiteStore
from ops.audit.cut import STANDSTILL_S, Cut, ServiceLogs, moved_to, take
from ops.reading import Stream
from tests.audit.paper import History, honest_history


@pytest_asyncio.fixture
async def logs(tmp_path: Path) -> AsyncIterator[tuple[History, ServiceLogs]]:
    """The stores of an honest day."""
    history = honest_history()
    async with contextlib.AsyncExitStack() as stack:
        stores = {}
        for name, log in history.logs.items():
            stores[name] = await stack.enter_async_context(SQLiteStore.open(tmp_path / name / "events.sqlite"))
            await stores[name].insert_events(
                [
                    Record(stream, version, NAMES[type(history.fact(f"{stream}@{version}"))], body)
                    for _, stream, version, body in log
                ]
            )
        yield history, stores


def cut_at(**positions: int) -> Cut:
    return Cut(datetime.now(UTC), {"order": 0, "product": 0, "point": 0, "coupon": 0, **positions}, {}, 0, {})


async def test_it_is_moved_to_the_causes_behind_it(logs: tuple[History, ServiceLogs]) -> None:
    history, stores = logs
    ends = {name: len(log) for name, log in history.logs.items()}
    one, other = history.id("point.used", "confirmed"), history.id("point.used", "plain")
    position = next(entry.position for entry in history.logs["point"] if f"{entry.stream}@{entry.version}" == other)

    assert await moved_to(stores, cut_at(), [one, other]) == {"point": position}
    assert await moved_to(stores, cut_at(point=position), [one, other]) == {}
    assert await moved_to(stores, cut_at(**ends), [one, other]) == {}


async def test_it_is_not_moved_by_a_cause_that_does_not_exist(logs: tuple[History, ServiceLogs]) -> None:
    assert await moved_to(logs[1], cut_at(), ["account-nobody@1", "whatever"]) == {}


class Relaying:
    """A stream that gets one fact of point_svc further each time it is asked how far it is, until `end`."""

    def __init__(self, end: int) -> None:
        self.reached = 0
        self._end = end

    def new_inbox(self) -> str:
        return "_INBOX.1"

    async def listen(self, _: str, handler: MessageCallback) -> None:
        self._handler = handler

    async def unlisten(self, _: object) -> None:
        pass

    async def publish(self, subject: str, _: bytes, reply: str) -> None:
        assert subject == "$JS.API.DIRECT.GET.EVENTS.point.>"
        self.reached = min(self.reached + 1, self._end)
        head = (
            f"{VERSION_LINE}\r\n{POSITION}: {self.reached}\r\n{ANSWERED_BY}: {EVENTS}\r\n"
            f"Nats-Subject: point.charged.ann\r\nNats-Sequence: {self.reached}\r\n"
            "Nats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n"
        )
        self._handler(reply.encode(), b"", b"{}", head.encode())

    async def request(self, subject: str, _: bytes, *, timeout: float) -> Msg:  # noqa: ASYNC109 - the library has it
        assert (subject, timeout > 0) == (generations.NAMES, True)
        return Msg(cast(BrokerClient, self), subject, data=b'{"total":1,"streams":["EVENTS"]}')

    async def stream_info(self, _: str) -> StreamInfo:
        state = StreamState(self._end, 0, 1, self.reached + 1, 1)
        return StreamInfo(StreamConfig(name="EVENTS"), state)


async def taken(relaying: Relaying, log: SQLiteStore, standstill_s: float = STANDSTILL_S) -> Cut:
    stream = Stream(cast(BrokerClient, relaying), cast(JetStreamContext, relaying))
    return await take(stream, {"point": log}, standstill_s=standstill_s)


async def test_what_is_recorded_is_waited_for_until_it_is_published(logs: tuple[History, ServiceLogs]) -> None:
    log = logs[1]["point"]
    end = await log.max_notification_id()

    cut = await taken(Relaying(end), log)

    assert (cut.sequence, cut.logs, cut.published) == (end + 1, {"point": end}, {"point": end})


async def test_a_relay_that_stands_still_is_not_waited_for(logs: tuple[History, ServiceLogs]) -> None:
    log = logs[1]["point"]

    cut = await taken(Relaying(3), log, standstill_s=0.1)

    assert cut.sequence == 4
    assert cut.published == {"point": await log.max_notification_id()}
