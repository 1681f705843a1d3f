"""Mirrors of EVENTS answer direct gets in its place; whoever goes on in the stream learns what its leader has."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from nats.aio.subscription import Subscription
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RawStreamMsg, StreamConfig, StreamSource

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION, encode
from infra.broker.client import MessageCallback, header
from infra.broker.connection import connect
from infra.broker.errors import HistoryUnavailable, LeaderUnavailable
from infra.broker.leader import ANSWERED_BY, Leader, leader_of
from infra.broker.lookup import latest_facts
from infra.broker.streams import EVENTS
from infra.broker.truncation import ReceivedPositions
from infra.broker.window import WINDOW
from infra.core.messages import StreamPosition
from infra.local.services import ROOT
from infra.store.sqlite import SQLiteStore
from infra.timestamps import microseconds
from tests.examples import ORDER_ID, coupon_used
from tests.infra.broker.mirroring import a_log, append, client, leader, mirroring, sending, session, settings
from tests.shop import Shop, attempts
from tests.wrappers.client import TappedClient

MIRRORS = 4
"""So many that a direct get seldom reaches the leader."""

FILTERS = [pytest.param(None, id="whole mirrors"), pytest.param("order.>", id="mirrors of other subjects")]


@pytest.fixture
async def log() -> AsyncIterator[SQLiteStore]:
    async with a_log() as store:
        yield store


async def mirror(js: JetStreamContext, filter_subject: str | None) -> None:
    """Make mirrors of EVENTS, and wait until they have what they mirror."""
    for n in range(MIRRORS):
        source = StreamSource(name=EVENTS, filter_subject=filter_subject)
        await js.add_stream(StreamConfig(name=f"COPY{n}", mirror=source))
    expected = 0 if filter_subject else (await js.stream_info(EVENTS)).state.messages
    async for _ in attempts("the mirrors to have everything"):
        infos = [await js.stream_info(f"COPY{n}") for n in range(MIRRORS)]
        if all(info.state.messages == expected for info in infos):
            break
    assert infos[0].config.mirror_direct


async def published(broker: Shop, log: SQLiteStore, last: int) -> None:
    await append(log, 1, last)
    async with mirroring(broker, log) as relay:
        await relay.caught_up()


@pytest.mark.parametrize("filter_subject", FILTERS)
async def test_a_restarted_relay_sends_nothing_again_beside_mirrors(
    broker: Shop, log: SQLiteStore, filter_subject: str | None
) -> None:
    await published(broker, log, WINDOW + 50)
    async with session(broker) as js:
        await mirror(js, filter_subject)

    for _ in range(5):
        async with sending(broker) as sent, mirroring(broker, log) as relay:
            await relay.caught_up()
        assert sent == []


async def test_a_lagging_mirror_does_not_make_a_relay_send_anything_again(broker: Shop, log: SQLiteStore) -> None:
    await published(broker, log, WINDOW + 50)
    async with session(broker) as js:
        await mirror(js, None)
        for n in range(MIRRORS):  # full: they get no more
            info = await js.stream_info(f"COPY{n}")
            info.config.max_msgs, info.config.discard = info.state.messages, DiscardPolicy.NEW
            await js.update_stream(info.config)
    await append(log, WINDOW + 51, WINDOW + 60)
    async with mirroring(broker, log) as relay:
        await relay.caught_up()

    for _ in range(5):
        async with sending(broker) as sent, mirroring(broker, log) as relay:
            await relay.caught_up()
        assert sent == []
    async with session(broker) as js:
        assert (await js.stream_info("COPY0")).state.last_seq == WINDOW + 50


@pytest.mark.parametrize("last", [5, WINDOW + 50])
async def test_a_stream_that_was_deleted_beside_its_mirrors_is_written_again(
    broker: Shop, log: SQLiteStore, last: int
) -> None:
    await published(broker, log, last)
    for _ in range(5):
        async with session(broker) as js:
            await mirror(js, None)
            await js.delete_stream(EVENTS)
        async with mirroring(broker, log) as relay:
            await relay.caught_up()

        assert [event.position for event in await broker.events()] == list(range(1, last + 1))
        async with session(broker) as js:
            for n in range(MIRRORS):
                await js.delete_stream(f"COPY{n}")


async def test_received_messages_of_a_deleted_stream_are_not_found_at_its_mirrors(
    broker: Shop, log: SQLiteStore
) -> None:
    await published(broker, log, 10)
    async with session(broker) as js:
        found = await (await leader(js)).at(10)
        assert found is not None
        assert found.time is not None
        received = ReceivedPositions()
        received.add(StreamPosition(10, microseconds(found.time)))
        await mirror(js, None)
        await js.delete_stream(EVENTS)
    async with mirroring(broker, log) as relay:
        await relay.caught_up()

    async with session(broker) as js:
        for _ in range(10):
            assert await received.truncated_after(await leader(js)) == 0


class Follower(TappedClient):
    """A connection on which a follower answers that has not got the newest messages yet, but says that it has all."""

    async def listen(self, subject: str, handler: MessageCallback) -> Subscription:
        def lagging(subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
            if int(header(head, b"Nats-Sequence") or 0) <= 6:
                handler(subject, reply, body, head)

        return await super().listen(subject, lagging)


class Orphan(TappedClient):
    """A connection on which a mirror answers that has other facts at the same sequences, and says whose it is."""

    async def listen(self, subject: str, handler: MessageCallback) -> Subscription:
        def mirrored(subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
            head = head.replace(b"Fact-Position: ", b"Fact-Position: 9").replace(b"Stream: EVENTS", b"Stream: COPY")
            handler(subject, reply, body, head)

        return await super().listen(subject, mirrored)


async def test_facts_are_not_read_back_from_a_mirror(broker: Shop, log: SQLiteStore) -> None:
    await published(broker, log, 10)
    async with connect(settings(broker), "mirrored", asyncio.Event(), client=Orphan) as (nc, _):
        asked = await leader_of(nc, nc.jetstream())

        found = [fact.position async for facts in asked.read_back("point.>") for fact in facts]

    assert found == list(range(1, 11))


async def test_a_follower_that_lags_hides_no_fact_from_a_relay(broker: Shop, log: SQLiteStore) -> None:
    await published(broker, log, 10)
    async with connect(settings(broker), "follower", asyncio.Event(), client=Follower) as (nc, _):
        js = nc.jetstream()
        asked = await leader_of(nc, js)

        found = [fact.position async for facts in asked.read_back("point.>") for fact in facts]

    assert found == list(range(1, 11))


@pytest.mark.parametrize("filter_subject", FILTERS)
async def test_all_questions_get_the_leaders_answers(
    broker: Shop, log: SQLiteStore, filter_subject: str | None
) -> None:
    await published(broker, log, 1_500)
    async with session(broker) as js:
        await mirror(js, filter_subject)
        asked = await leader(js)
        for _ in range(5):
            last, first = await asked.last("point.>"), await asked.next(1, "point.charged.ann")
            at = await asked.at(700)
            assert last is not None
            assert first is not None
            assert at is not None
            assert [(found.seq, (found.headers or {})[MSG_ID]) for found in (first, at, last)] == [
                (n, f"account-ann@{n}") for n in (1, 700, 1_500)
            ]
            assert await asked.last("coupon.>") is None
            assert await asked.next(1, "coupon.used.o") is None
            assert await asked.at(1_501) is None
            backwards = [facts async for facts in asked.read_back("point.>")]
            assert [[fact.position for fact in facts] for facts in backwards] == [
                list(range(477, 1_501)),
                list(range(1, 477)),
            ]
            assert [facts async for facts in asked.read_back("coupon.>")] == []


async def test_a_leader_that_does_not_answer_is_told_with_the_permission_that_it_takes(broker: Shop) -> None:
    class Denied(JetStreamContext):
        """As a client sees it whose user may not ask the leader."""

        async def get_msg(self, *args: Any, **options: Any) -> RawStreamMsg:
            if not options.get("direct"):
                raise NatsTimeout
            return await super().get_msg(*args, **options)

    async with session(broker) as js:
        asked = Leader(client(js), Denied(client(js)), await js.stream_info(EVENTS))
        with pytest.raises(LeaderUnavailable, match=r"\$JS\.API\.STREAM\.MSG\.GET\.EVENTS .*may not publish there"):
            await asked.at(1)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"headers": {ANSWERED_BY: "COPY"}}, id="of a mirror"),
        pytest.param({"headers": None}, id="of nobody"),
        pytest.param({"seq": 3}, id="beyond the stream's end"),
        pytest.param({"time": None}, id="without a time"),
    ],
)
async def test_an_answer_that_need_not_be_the_leaders_is_not_believed(broker: Shop, change: dict[str, Any]) -> None:
    class Odd(JetStreamContext):
        async def get_msg(self, *args: Any, **options: Any) -> RawStreamMsg:
            found = await super().get_msg(*args, **options)
            if options.get("direct"):
                found.data = b"another message"
                for name, value in change.items():
                    setattr(found, name, value)
            return found

    async with session(broker) as js:
        await js.publish("point.charged.ann", b"1")
        asked = Leader(client(js), Odd(client(js)), await js.stream_info(EVENTS))
        for found in (await asked.at(1), await asked.next(1, "point.>"), await asked.last("point.>")):
            assert found is not None
            assert found.data == b"1"


def test_nobody_else_makes_a_direct_get() -> None:
    """An answer that no one holds against the leader may be a mirror's."""
    direct = re.compile(r"(?<!allow_)direct=True|JS\.API\.DIRECT")
    files = [path for room in ("infra", "ops", "order_svc", "product_svc") for path in (ROOT / room).rglob("*.py")]
    using = {str(path.relative_to(ROOT)) for path in files if direct.search(path.read_text(encoding="utf-8"))}

    assert using == {"infra/broker/leader.py", "infra/broker/lookup.py", "infra/broker/stored.py"}


@pytest.mark.parametrize("filter_subject", [None, "coupon.>"])
async def test_an_orders_facts_are_looked_up_in_the_stream_itself(broker: Shop, filter_subject: str | None) -> None:
    """A mirror may lack some of them, and its answer would look complete."""
    async with session(broker) as js:
        used = coupon_used()
        place = {MSG_ID: f"{used.stream}@1", STREAM: used.stream, VERSION: "1", POSITION: "1"}
        await js.publish(f"coupon.used.{ORDER_ID}", encode(used), headers=place)
        await mirror(js, filter_subject)
        await js.publish(f"order.confirmed.{ORDER_ID}", b"\xff")
        for _ in range(5):
            with suppress(HistoryUnavailable):  # that says so, too
                assert len(await latest_facts(client(js), "order_id", ORDER_ID)) == 1
