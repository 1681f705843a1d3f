"""Mirrors of EVENTS answer direct gets in its place; whoever goes on in the stream learns what its leader has."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StreamConfig, StreamSource
from nats.js.errors import NotFoundError

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION, encode, subject
from infra.broker import leader as leader_module
from infra.broker.client import VERSION_LINE, BrokerClient, MessageCallback, header
from infra.broker.connection import connect
from infra.broker.errors import HistoryUnavailable, LeaderUnavailable
from infra.broker.gaps import find_gaps
from infra.broker.leader import Leader, leader_of
from infra.broker.lookup import latest_facts
from infra.broker.numbering import EVENTS
from infra.broker.stored import DirectAnswer, direct
from infra.broker.truncation import ReceivedPositions
from infra.broker.window import WINDOW
from infra.core.messages import StreamPosition
from infra.local.services import ROOT
from infra.store.sqlite import SQLiteStore
from tests.examples import ORDER_ID, coupon_used, points_used
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
        received = ReceivedPositions()
        received.add(StreamPosition(10, found.stored_us))
        await mirror(js, None)
        await js.delete_stream(EVENTS)
    async with mirroring(broker, log) as relay:
        await relay.caught_up()

    async with session(broker) as js:
        for _ in range(10):
            assert await received.truncated_after(await leader(js)) == 0


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
            assert [(found.sequence, header(found.raw_headers, MSG_ID.encode())) for found in (first, at, last)] == [
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


async def test_a_stream_that_is_gone_is_not_taken_for_an_empty_one(broker: Shop, log: SQLiteStore) -> None:
    """Its facts may be in the archive since: a relay that found none here would publish them all again."""
    await published(broker, log, 10)
    async with session(broker) as js:
        asked = await leader(js)
        await js.delete_stream(EVENTS)
        found = find_gaps("point", log, [asked], floor=0, acked=10)
        for question in (asked.last("point.>"), asked.next(1, "point.>"), asked.at(1), found):
            with pytest.raises(NotFoundError, match="stream not found"):
                await question


async def test_a_leader_that_does_not_answer_is_told_with_the_permission_that_it_takes(
    broker: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with session(broker) as js:
        nc = client(js)

        async def denied(*_: object, **__: object) -> Msg:
            """As a client sees it whose user may not ask the leader."""
            raise NatsTimeout

        info = await js.stream_info(EVENTS)
        asked = Leader(nc, info)
        monkeypatch.setattr(nc, "request", denied)
        for question in (asked.at(1), asked.next(1, "point.>"), asked.last("point.>")):
            with pytest.raises(LeaderUnavailable, match=r"\$JS\.API\.STREAM\.MSG\.GET\.EVENTS .*may not publish there"):
                await question
        info.state.num_deleted = 1
        with pytest.raises(LeaderUnavailable, match=r"\$JS\.API\.STREAM\.INFO\.EVENTS "):
            await Leader(nc, info).holes()


@pytest.mark.parametrize(
    ("change", "answered_by"),
    [
        pytest.param({}, {"COPY"}, id="of a mirror"),
        pytest.param({}, {""}, id="of nobody"),
        pytest.param({"sequence": 3}, {EVENTS}, id="beyond the stream's end"),
        pytest.param({"stored_ns": 0}, {EVENTS}, id="of an earlier stream"),
    ],
)
async def test_an_answer_that_need_not_be_the_leaders_is_not_believed(
    broker: Shop, change: dict[str, Any], answered_by: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def odd(nc: BrokerClient, stream: str, request: Mapping[str, Any] | str) -> DirectAnswer:
        answer = await direct(nc, stream, request)
        messages = [found._replace(body=b"another message", **change) for found in answer.messages]
        return answer._replace(messages=messages, answered_by=frozenset(answered_by))

    monkeypatch.setattr(leader_module, "direct", odd)
    async with session(broker) as js:
        await js.publish("point.charged.ann", b"1")
        asked = await leader(js)
        for found in (await asked.at(1), await asked.next(1, "point.>"), await asked.last("point.>")):
            assert found is not None
            assert found.body == b"1"


async def test_a_reading_back_that_a_lagging_replica_ends_early_is_not_believed(
    broker: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lagging(nc: BrokerClient, stream: str, request: Mapping[str, Any] | str) -> DirectAnswer:
        answer = await direct(nc, stream, request)
        if isinstance(request, str) or "batch" not in request:
            return answer
        return answer._replace(messages=answer.messages[:-1], pending=0)

    facts = [points_used(order_id=key) for key in "abc"]
    async with session(broker) as js:
        for version, fact in enumerate(facts, 1):
            body = encode(fact)
            place = {STREAM: fact.stream, VERSION: str(version), POSITION: str(version)}
            head = {MSG_ID: f"{fact.stream}@{version}", **place}
            await js.publish(subject("point.used", body), body, headers=head)
        monkeypatch.setattr(leader_module, "direct", lagging)

        found = [fact.body async for span in (await leader(js)).read_back("point.>") for fact in span]

    assert found == [encode(fact) for fact in facts]


NESTED = "Content-Type: message/rfc822\r\n\r\n" * 1_500

ODD = [
    pytest.param(f"{VERSION_LINE}\r\nStatus: 503\r\n\r\n".encode(), id="a status among the headers"),
    pytest.param(f"{VERSION_LINE} 503 No Responders\r\n\r\n".encode(), id="a status before the headers"),
    pytest.param(f"{VERSION_LINE}\r\nStatus: 404\r\nNats-Sequence: x\r\nNats-Stream: Z\r\n\r\n".encode(), id="forged"),
    pytest.param(f"{VERSION_LINE}\r\n{NESTED}\r\n".encode(), id="nested parts"),
    pytest.param(f"{VERSION_LINE}\r\nName: 머그\r\n\r\n".encode(), id="not ASCII"),
    pytest.param(f"{VERSION_LINE}\r\nName: ".encode() + b"\xff\r\n\r\n", id="not UTF-8"),
    pytest.param(f"{VERSION_LINE}\r\nA: b\r\n".encode(), id="no empty line after the headers"),
    pytest.param(b"garbage", id="no headers at all"),
]
"""The raw headers of messages that anybody may publish."""


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("raw_headers", ODD)
async def test_any_message_is_read_as_it_is_stored(broker: Shop, raw_headers: bytes, mirrored: bool) -> None:
    """Its own sequence, subject, headers and time, and as the last one on a subject it hides no fact before it."""
    async with session(broker) as js:
        used = coupon_used()
        place = {MSG_ID: f"{used.stream}@1", STREAM: used.stream, VERSION: "1", POSITION: "1"}
        await js.publish(f"coupon.used.{ORDER_ID}", encode(used), headers=place)
        length = len(raw_headers)
        await client(js)._send_command(b"HPUB coupon.used.odd %d %d\r\n%b\r\n" % (length, length, raw_headers))
        await client(js).flush()
        if mirrored:
            await mirror(js, None)
        asked = await leader(js)
        for found in (await asked.at(2), await asked.next(2, "coupon.>"), await asked.last("coupon.>")):
            assert found is not None
            assert (found.sequence, found.subject, found.body) == (2, "coupon.used.odd", b"")
            assert raw_headers.partition(b"\r\n")[2][:-2] in found.raw_headers  # no server stores a status
            received = ReceivedPositions()
            received.add(StreamPosition(2, found.stored_us))
            assert await received.truncated_after(asked) is None
        assert [fact.sequence async for facts in asked.read_back("coupon.>") for fact in facts] == [1]


def test_nobody_else_makes_a_direct_get() -> None:
    """An answer that no one holds against the leader may be a mirror's."""
    direct = re.compile(r"(?<!allow_)direct=True|JS\.API\.DIRECT")
    files = [path for room in ("infra", "ops", "order_svc", "product_svc") for path in (ROOT / room).rglob("*.py")]
    using = {str(path.relative_to(ROOT)) for path in files if direct.search(path.read_text(encoding="utf-8"))}

    assert using == {"infra/broker/stored.py"}


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
