"""The relay copies the log into the stream of a real broker: in order, without repeats, after every kind of loss."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import OperationalError
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import StreamConfig, StreamInfo, StreamState
from structlog.testing import capture_logs

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION, stream_of
from infra.broker.client import BrokerClient, MessageCallback, Outgoing
from infra.broker.errors import FactTooLarge, LogLost, RelayFailed
from infra.broker.fact_message import subject_of
from infra.broker.fast_ingest import FLOW
from infra.broker.gaps import Gap
from infra.broker.leader import FIRST_SPAN, Leader, leader_of
from infra.broker.numbering import EVENTS, first_sequence
from infra.broker.relay import Relay
from infra.broker.resume import ResumePosition
from infra.broker.streams import MAX_FACT_BYTES
from infra.broker.window import WINDOW
from infra.store.event_store import EventStore
from infra.store.records import Notification
from infra.store.sqlite import SQLiteStore
from ops.replay.lines import is_subject
from tests.infra.broker.mirroring import (
    Mirror,
    a_log,
    answering,
    append,
    charged,
    client,
    leader,
    mirroring,
    sending,
    session,
)
from tests.infra.purse import WatchedStore
from tests.infra.records import log_of
from tests.shop import PATIENCE_S, Event, Shop, attempts


@pytest.fixture
async def log() -> AsyncIterator[SQLiteStore]:
    async with a_log() as store:
        yield store


def published(events: list[Event]) -> list[tuple[int, str, bytes]]:
    return [(event.position, event.fact_id, event.raw) for event in events]


async def recorded(log: EventStore) -> list[tuple[int, str, bytes]]:
    return [
        (stored.position, f"{stored.originator_id}@{stored.originator_version}", stored.state)
        for stored in await log_of(log)
    ]


class Wire(BrokerClient):
    """A connection whose other end is the test: the test reads the messages that were sent, and answers them."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: asyncio.Queue[Outgoing] = asyncio.Queue()
        self.answer: MessageCallback = lambda *_: None

    async def listen(self, subject: str, handler: MessageCallback) -> Subscription:
        self.answer = handler
        return Subscription(self, 1, subject)

    async def send_all(self, messages: Iterable[Outgoing]) -> None:
        for message in messages:
            self.sent.put_nowait(message)

    async def replies(self, count: int) -> list[bytes]:
        """The reply subjects of the next messages."""
        async with asyncio.timeout(PATIENCE_S):
            return [(await self.sent.get())[2].encode() for _ in range(count)]


@contextlib.asynccontextmanager
async def wired(log: EventStore, leaders: Sequence[Leader] = (), **limits: Any) -> AsyncIterator[tuple[Wire, Relay]]:
    """A relay at work on such a connection: from the log's beginning, or from what it finds in these generations."""
    wire = Wire()
    relay = Relay("point", log, wire, **limits)
    if leaders:
        await relay.find_resume_position(leaders)
    run = asyncio.create_task(relay.run())
    try:
        yield wire, relay
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


def drained(sent: asyncio.Queue[Outgoing]) -> Iterator[Outgoing]:
    while not sent.empty():
        yield sent.get_nowait()


# Mirroring ------------------------------------------------------------------------------------------------------------


async def test_the_stream_gets_the_log_in_its_order_byte_for_byte(broker: Shop, log: SQLiteStore) -> None:
    await log.insert_events([charged(1), charged(1, "ben"), charged(2), charged(2, "ben")])

    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    events = await broker.events()
    assert published(events) == await recorded(log)
    assert [event.subject for event in events] == [
        "point.charged.ann",
        "point.charged.ben",
        "point.charged.ann",
        "point.charged.ben",
    ]


async def test_a_fact_travels_with_four_headers(broker: Shop, log: SQLiteStore) -> None:
    await log.insert_events([charged(1), charged(2)])

    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    async with session(broker) as js:
        message = await js.get_last_msg(EVENTS, "point.charged.ann")
    assert message.headers == {MSG_ID: "account-ann@2", STREAM: "account-ann", VERSION: "2", POSITION: "2"}


async def test_later_records_follow(broker: Shop, log: SQLiteStore) -> None:
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
        for n in range(1, 6):
            await append(log, n, n)
            mirror.relay.log_has_grown()
            assert not mirror.relay.caught_up.is_set()
            await mirror.caught_up()

    assert published(await broker.events()) == await recorded(log)


async def test_a_log_longer_than_the_window_is_mirrored_in_order(broker: Shop, log: SQLiteStore) -> None:
    await append(log, 1, 3 * WINDOW)

    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert published(await broker.events()) == await recorded(log)


async def test_positions_may_have_gaps(broker: Shop) -> None:
    class Gapped(WatchedStore):
        async def max_notification_id(self) -> int:
            return 50_000

        async def select_notifications(self, after: int, limit: int, topics: object = ()) -> list[Notification]:
            positions = [7, 8, 1_000, 50_000]
            return [Notification(p, *charged(n)) for n, p in enumerate(positions, 1) if p > after]

    log = Gapped()
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
    log.close()

    assert [event.position for event in await broker.events()] == [7, 8, 1_000, 50_000]


async def test_a_burst_is_acknowledged_as_a_batch_and_a_lone_fact_by_itself(broker: Shop, log: SQLiteStore) -> None:
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
        async with answering(broker) as answers:
            await append(log, 1, 3 * FLOW)
            mirror.relay.log_has_grown()
            await mirror.caught_up()
            await append(log, 3 * FLOW + 1, 3 * FLOW + 1)
            mirror.relay.log_has_grown()
            await mirror.caught_up()

    assert [answer.get("seq") for answer in answers] == [0, FLOW, 2 * FLOW, 3 * FLOW, 3 * FLOW + 1]
    assert published(await broker.events()) == await recorded(log)


async def test_no_more_than_the_window_is_sent_without_an_acknowledgement(log: SQLiteStore) -> None:
    await append(log, 1, 3 * WINDOW)
    wire = Wire()

    with pytest.raises(RelayFailed, match="no acknowledgement"):
        await Relay("point", log, wire, ack_timeout_s=0.5).run()

    positions = [re.search(rf"{POSITION}: (\d+)", raw_headers) for *_, raw_headers in drained(wire.sent)]
    assert [int(found[1]) for found in positions if found] == list(range(1, WINDOW + 1))


# Continuing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [5, WINDOW + 200], ids=["less than the window", "more than the window"])
async def test_a_restarted_relay_sends_nothing_that_the_stream_has(broker: Shop, log: SQLiteStore, last: int) -> None:
    """Past the duplicate window each repeat would be stored."""
    await append(log, 1, last)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
    await append(log, last + 1, last + 10)

    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert sent == list(range(last + 1, last + 11))
    assert published(await broker.events()) == await recorded(log)


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param([*range(1, 700), *range(720, 901)], id="one hole"),
        pytest.param([*range(1, 500), *range(501, 901, 2)], id="many holes"),
        pytest.param([*range(1, 600), *range(620, 901), 600, 605], id="a hole that was filled in part"),
        pytest.param([*range(1, 901), *range(400, 701)], id="repeats of an earlier time"),
        pytest.param([*range(1, 901), *range(200, 230)], id="repeats of a far earlier time"),
    ],
)
async def test_a_relay_sends_exactly_what_is_missing_in_the_window(
    broker: Shop, log: SQLiteStore, stored: list[int]
) -> None:
    broker.env["DUPLICATE_WINDOW_S"] = "0.1"
    await append(log, 1, 910)
    async with session(broker) as js:
        await by_hand(js, log, stored)

    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert sent == sorted(set(range(1, 911)).difference(stored))
    assert {event.position for event in await broker.events()} == set(range(1, 911))
    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        await mirror.caught_up()
    assert sent == []


async def by_hand(js: JetStreamContext, log: SQLiteStore, positions: Iterable[int]) -> None:
    """Publish these positions of the log in this order, also those that the stream has already."""
    records = {record.position: record for record in await log_of(log)}
    for position in positions:
        await publish(js, records[position], records[position].state)


async def publish(js: JetStreamContext, record: Notification, body: bytes) -> None:
    """Publish a body as this record's, also if the stream has the record already."""
    headers = {
        MSG_ID: f"{record.originator_id}@{record.originator_version}",
        STREAM: record.originator_id,
        VERSION: str(record.originator_version),
        POSITION: str(record.position),
    }
    async for _ in attempts("the end of the duplicate window"):
        if not (await js.publish(subject_of(record), body, headers=headers)).duplicate:
            break


async def test_a_broker_that_lost_its_whole_store_is_written_again(broker: Shop, log: SQLiteStore) -> None:
    await append(log, 1, WINDOW + 100)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    await broker.kill("nats")
    broker.lose_stream()
    await broker.start_nats()
    with capture_logs() as told:
        async with mirroring(broker, log) as mirror:
            await mirror.caught_up()

    assert published(await broker.events()) == await recorded(log)
    assert [(line["log_level"], line["facts"]) for line in told if "store was lost" in line["event"]] == [
        ("warning", WINDOW + 100)
    ]


async def test_a_new_service_has_lost_nothing(broker: Shop, log: SQLiteStore) -> None:
    with capture_logs() as told:
        async with mirroring(broker, log) as mirror:
            await mirror.caught_up()

    assert [line for line in told if line["log_level"] == "warning"] == []


async def test_a_broker_that_was_killed_while_it_was_written_to_misses_nothing(broker: Shop, log: SQLiteStore) -> None:
    await append(log, 1, 4 * WINDOW)
    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        async for _ in attempts("some facts to be on their way"):
            if len(sent) > 100:
                break
        await broker.kill("nats")
        mirror.run.cancel()

    await broker.start_nats()
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert published(await broker.events()) == await recorded(log)


async def test_messages_of_other_publishers_are_passed_over(broker: Shop, log: SQLiteStore) -> None:
    await append(log, 1, WINDOW + 10)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
    async with session(broker) as js:
        forged = {MSG_ID: "account-ann@7", STREAM: "account-ann", VERSION: "8", POSITION: "100000"}
        await js.publish("point.charged.somebody", b"by hand", headers=forged)
        for n in range(2 * FIRST_SPAN):
            await js.publish(f"point.charged.somebody{n}", b"by hand")

    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert sent == []


async def test_a_stream_made_anew_gets_all_of_the_log_even_if_it_has_its_end_already(
    broker: Shop, log: SQLiteStore
) -> None:
    await append(log, 1, 2 * WINDOW)
    async with session(broker) as js:
        await by_hand(js, log, [2 * WINDOW])

    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert [event.position for event in await broker.events()] == [2 * WINDOW, *range(1, 2 * WINDOW)]


async def test_a_fill_that_was_interrupted_is_completed(broker: Shop, log: SQLiteStore) -> None:
    """The stream was made anew, has the log's end, and of what the relay published again only the beginning."""
    broker.env["DUPLICATE_WINDOW_S"] = "0.1"
    await append(log, 1, 3, user="bob")
    await append(log, 1, 3 * WINDOW)
    end = 3 * WINDOW + 3
    async with session(broker) as js:
        await by_hand(js, log, [end, 1, 2, 3])

    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert {event.position for event in await broker.events()} == set(range(1, end + 1))


async def with_its_end_alone(broker: Shop, log: SQLiteStore, beginning: int) -> range:
    """Make a log, and a stream that has the last positions of it: more than are read back. Return those it lacks."""
    end = beginning + WINDOW + 10
    await append(log, 1, end)
    async with session(broker) as js:
        await by_hand(js, log, list(range(beginning + 1, end + 1)))
    return range(1, beginning + 1)


async def test_after_a_long_fill_nothing_is_published_again(broker: Shop, log: SQLiteStore) -> None:
    lacks = await with_its_end_alone(broker, log, 3 * WINDOW)

    async with sending(broker) as sent:
        for _ in range(2):
            async with mirroring(broker, log) as mirror:
                await mirror.caught_up()

    assert sent == list(lacks)


async def test_behind_a_long_fill_a_log_that_lacks_the_streams_end_is_not_published(
    broker: Shop, log: SQLiteStore
) -> None:
    lacks = await with_its_end_alone(broker, log, 3 * WINDOW)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
    events = len(await broker.events())

    async with a_log() as older:
        await append(older, 1, lacks[-1])
        async with mirroring(broker, older) as mirror:
            error = await mirror.failed()

    assert isinstance(error, LogLost)
    assert f"account-ann@{lacks[-1] + WINDOW + 10} at position" in str(error)
    assert len(await broker.events()) == events


async def test_of_a_long_fill_that_was_interrupted_only_the_rest_is_published(broker: Shop, log: SQLiteStore) -> None:
    lacks = await with_its_end_alone(broker, log, 8 * WINDOW)
    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        async for _ in attempts("the fill to begin"):
            if sent:
                break
        mirror.run.cancel()
        await asyncio.wait([mirror.run])
    stored = {event.position for event in await broker.events()}
    assert lacks[0] in stored
    assert lacks[-1] not in stored, "it was to be interrupted"

    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert sorted(sent) == sorted(set(lacks) - stored)
    assert {event.position for event in await broker.events()} == set(range(1, lacks[-1] + WINDOW + 11))


async def test_a_log_that_ends_before_what_it_has_published_is_not_published(broker: Shop, log: SQLiteStore) -> None:
    await append(log, 1, 10)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    async with a_log() as older:
        await append(older, 1, 3)
        async with mirroring(broker, older) as mirror:
            error = await mirror.failed()

    assert isinstance(error, LogLost)
    assert "account-ann@10 at position 10" in str(error)
    assert "the log has not: this store is another one, or lost its newest records" in str(error)
    assert f"It is {older.place}. Put" in str(error)
    assert len(await broker.events()) == 10


async def test_a_store_made_anew_in_another_folder_is_named_and_the_folder_comes_first(
    broker: Shop, log: SQLiteStore
) -> None:
    await append(log, 1, 3)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    async with a_log() as new, mirroring(broker, new) as mirror:
        error = await mirror.failed()

    assert isinstance(error, LogLost)
    assert "the log has no fact: this store is another one, or was made anew. " in str(error)
    assert f"It is {new.place}. Start" in str(error)
    assert str(error).index("DATA_DIR") < str(error).index("just rebuild")
    assert len(await broker.events()) == 3


async def test_what_another_process_has_recorded_and_published_is_in_the_log(broker: Shop, tmp_path: Path) -> None:
    """The newest records are in memory, without those of another process."""
    async with (
        SQLiteStore.open(tmp_path / "events.sqlite") as log,
        SQLiteStore.open(tmp_path / "events.sqlite") as same,
    ):
        await append(log, 1, 3)
        await append(same, 4, 5)
        async with mirroring(broker, same) as mirror:
            await mirror.caught_up()

        async with mirroring(broker, log) as mirror:
            await mirror.caught_up()

        assert published(await broker.events()) == await recorded(log)


async def test_a_log_that_has_grown_differently_is_not_published_either(broker: Shop, log: SQLiteStore) -> None:
    """A store that was lost and has recorded since is long enough, but has other facts."""
    await append(log, 1, 10)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    async with a_log() as other:
        await append(other, 1, 20, user="bob")
        async with mirroring(broker, other) as mirror:
            error = await mirror.failed()

    assert isinstance(error, LogLost)
    assert len(await broker.events()) == 10


async def test_the_log_of_another_history_with_the_same_ids_is_not_published(broker: Shop, log: SQLiteStore) -> None:
    await append(log, 1, 10)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()

    async with a_log() as other:
        await other.insert_events([charged(n, padding=1) for n in range(1, 11)])
        async with mirroring(broker, other) as mirror:
            error = await mirror.failed()

    assert isinstance(error, LogLost)
    assert len(await broker.events()) == 10


async def test_a_forged_copy_of_a_fact_neither_hides_it_nor_stops_the_relay(broker: Shop, log: SQLiteStore) -> None:
    broker.env["DUPLICATE_WINDOW_S"] = "0.1"
    await append(log, 1, 10)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
    async with session(broker) as js:
        for record in (await log_of(log))[6:]:
            await publish(js, record, charged(record.position, padding=1).state)

    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert sent == []


# Failing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [1, 2, 2 * FLOW], ids=["alone", "one of two", "in a batch"])
async def test_a_fact_whose_id_another_message_has_is_named_and_published_once_the_id_is_free(
    broker: Shop, log: SQLiteStore, last: int
) -> None:
    await append(log, 1, last)
    async with session(broker) as js:
        taken = (await js.publish("point.charged.zz", b"{}", headers={MSG_ID: f"account-ann@{last}"})).seq

        told: list[str] = []
        while f"sequence {taken} of EVENTS" not in (told or [""])[-1]:
            async with mirroring(broker, log) as mirror:
                told.append(str(await mirror.failed()))
            assert len(told) < 3, told

        assert f"account-ann@{last} (point.charged) at position {last} of point_svc's log" in told[-1]
        assert "'point.charged.zz'" in told[-1]
        config = (await js.stream_info(EVENTS)).config
        config.duplicate_window = 0.1
        await js.update_stream(config)
    async for _ in attempts("the broker to forget the id"):
        async with mirroring(broker, log) as mirror:
            with contextlib.suppress(RelayFailed):
                await mirror.caught_up()
                break

    events = [event for event in await broker.events() if event.position]
    assert published(events) == await recorded(log)


async def test_a_repeat_of_the_same_fact_counts_as_stored(broker: Shop, log: SQLiteStore) -> None:
    """An earlier session's connection may still have had it on its way when the stream was read back."""
    await append(log, 1, 1)
    async with session(broker) as js:
        relay = Relay("point", log, client(js))
        await relay.find_resume_position([await leader(js)])
        await by_hand(js, log, [1])
        run = asyncio.create_task(relay.run())
        mirror = Mirror(relay, run)
        await mirror.caught_up()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)

    assert relay.acked == 1
    assert published(await broker.events()) == await recorded(log)


async def test_a_full_stream_fails_the_relay_and_nothing_is_lost(broker: Shop, log: SQLiteStore) -> None:
    broker.env["EVENTS_MAX_BYTES"] = str(1 << 20)
    await log.insert_events([charged(n, padding=50_000) for n in range(1, 31)])  # 1.5 MB

    async with mirroring(broker, log) as mirror:
        error = await mirror.failed()
    assert isinstance(error, RelayFailed)
    assert "maximum bytes exceeded" in str(error)
    assert 0 < len(await broker.events()) < 30

    async with session(broker) as js:
        config = (await js.stream_info(EVENTS)).config
        config.max_bytes = 1 << 30
        await js.update_stream(config)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
    assert published(await broker.events()) == await recorded(log)


async def test_a_fact_beyond_the_message_limit_fails_the_relay_with_the_brokers_reason(
    broker: Shop, log: SQLiteStore
) -> None:
    await log.insert_events([charged(1), charged(2, padding=MAX_FACT_BYTES)])

    async with mirroring(broker, log) as mirror:
        error = await mirror.failed()

    assert isinstance(error, RelayFailed)
    assert "message size exceeds maximum" in str(error)


async def test_behind_a_fact_that_is_refused_nothing_of_its_batch_is_stored(broker: Shop, log: SQLiteStore) -> None:
    await log.insert_events([charged(n, padding=MAX_FACT_BYTES if n == 40 else 0) for n in range(1, 81)])

    async with mirroring(broker, log) as mirror:
        error = await mirror.failed()
        acked = mirror.relay.acked

    assert isinstance(error, RelayFailed)
    assert [event.position for event in await broker.events()] == list(range(1, 40))
    assert acked == FLOW  # the rest of the 39 is sent once more


async def test_while_a_gap_is_filled_what_is_behind_it_counts_as_published(
    log: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def found(*_: object) -> ResumePosition:
        return ResumePosition(5, {}, [Gap(1, 2), Gap(3, 4)])

    monkeypatch.setattr("infra.broker.relay.find_resume_position", found)
    await append(log, 1, 5)
    stream = StreamInfo(StreamConfig(name=EVENTS), StreamState(0, 0, 1, 0, 0))
    async with wired(log, [Leader(Wire(), stream)]) as (wire, relay):
        (first,) = await wire.replies(1)
        assert (relay.acked, relay.gaps) == (5, [Gap(1, 2), Gap(3, 4)])
        wire.answer(first, b"", b'{"stream":"EVENTS","seq":6}', b"")
        (second,) = await wire.replies(1)
        assert (relay.acked, relay.gaps) == (5, [Gap(3, 4)])
        wire.answer(second, b"", b'{"stream":"EVENTS","seq":7}', b"")
        async with asyncio.timeout(PATIENCE_S):
            await relay.caught_up.wait()

        assert (relay.acked, relay.gaps) == (5, [])


async def test_behind_a_refusal_no_acknowledgement_counts(log: SQLiteStore) -> None:
    """The next session's resume position must not lie behind a fact that the stream lacks."""
    await append(log, 1, 2)
    async with wired(log) as (wire, relay):
        first, second = await wire.replies(2)
        wire.answer(second, b"", b'{"error":{"code":503}}', b"")
        wire.answer(first, b"", b'{"stream":"EVENTS","seq":1}', b"")

        assert relay.acked == 0


async def test_the_answer_that_a_batch_has_begun_acknowledges_nothing(log: SQLiteStore) -> None:
    await append(log, 1, 3)
    async with wired(log, stalled_after_s=0.01) as (wire, relay):
        first, _, last = await wire.replies(3)
        await asyncio.sleep(0.05)

        wire.answer(first, b"", b'{"type":"ack","seq":0,"msgs":32}', b"")
        assert relay.stalled

        wire.answer(last, b"", b'{"stream":"EVENTS","seq":3,"batch":"it","count":3}', b"")
        assert (relay.stalled, relay.acked) == (False, 3)


async def test_after_an_idle_time_a_fact_is_not_overdue_at_once(log: SQLiteStore) -> None:
    async with wired(log, stalled_after_s=0.2) as (wire, relay):
        await relay.caught_up.wait()
        await asyncio.sleep(0.3)
        await append(log, 1, 1)
        relay.log_has_grown()
        await wire.replies(1)

        assert not relay.stalled


async def test_the_time_in_which_the_broker_acknowledges_nothing_is_counted(
    log: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(log, 1, 2)
    async with wired(log) as (wire, relay):
        first, second = await wire.replies(2)
        loop = asyncio.get_running_loop()
        began = relay._last_ack
        for later_s, expected in ((0.05, 0.0), (2.1, 2.0)):
            monkeypatch.setattr(loop, "time", lambda later_s=later_s: began + later_s)
            assert relay.stalled_s == pytest.approx(expected)

        wire.answer(first, b"", b'{"stream":"EVENTS","seq":1}', b"")
        monkeypatch.setattr(loop, "time", lambda: began + 2.15)
        assert relay.stalled_s == pytest.approx(2.0), "the next wait is a short one"
        monkeypatch.setattr(loop, "time", lambda: began + 3.2)
        assert relay.stalled_s == pytest.approx(3.0)
        wire.answer(second, b"", b'{"stream":"EVENTS","seq":2}', b"")
        monkeypatch.setattr(loop, "time", lambda: began + 99.0)
        assert relay.stalled_s == pytest.approx(3.0), "nothing is in flight"
        monkeypatch.undo()


async def test_a_stall_that_a_repeat_ends_is_counted(
    broker: Shop, log: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(log, 1, 1)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
    async with session(broker) as js, wired(log) as (wire, relay):
        (only,) = await wire.replies(1)
        relay._leader = await leader_of(client(js), js)
        loop = asyncio.get_running_loop()
        began = relay._last_ack
        with monkeypatch.context() as later:
            later.setattr(loop, "time", lambda: began + 3.0)
            wire.answer(only, b"", b'{"stream":"EVENTS","seq":1,"duplicate":true}', b"")
            await relay.caught_up.wait()
            assert relay.stalled_s == pytest.approx(2.9)


async def test_a_broker_that_acknowledges_nothing_stalls_the_relay_and_then_fails_it(
    broker: Shop, log: SQLiteStore
) -> None:
    async with mirroring(broker, log, ack_timeout_s=0.5, stalled_after_s=0.05) as mirror:
        await mirror.caught_up()
        assert not mirror.relay.stalled
        async with broker.paused("nats"):
            await append(log, 1, 5)
            mirror.relay.log_has_grown()
            async for _ in attempts("the relay to stall"):
                assert not mirror.run.done() or mirror.relay.stalled, mirror.run
                if mirror.relay.stalled:
                    break
            error = await mirror.failed()

    assert isinstance(error, RelayFailed)
    assert "no acknowledgement" in str(error)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
    assert published(await broker.events()) == await recorded(log)


async def test_a_store_that_fails_ends_the_relay(broker: Shop) -> None:
    class Broken(WatchedStore):
        async def select_notifications(self, after: int, limit: int, topics: object = ()) -> list[Notification]:
            raise OperationalError("disk I/O error")

    log = Broken()
    async with mirroring(broker, log) as mirror:
        error = await mirror.failed()
    log.close()

    assert isinstance(error, OperationalError)


async def test_an_idle_relay_waits_for_no_acknowledgement(broker: Shop, log: SQLiteStore) -> None:
    await append(log, 1, 3)
    async with mirroring(broker, log, ack_timeout_s=1.0, stalled_after_s=1.0) as mirror:
        await mirror.caught_up()
        await asyncio.sleep(1.1)
        assert not mirror.relay.stalled
        assert not mirror.run.done()

        await append(log, 4, 5)
        mirror.relay.log_has_grown()
        await mirror.caught_up()

    assert published(await broker.events()) == await recorded(log)


# What older code recorded ---------------------------------------------------------------------------------------------


async def test_facts_without_an_id_that_older_code_recorded_are_published_and_so_is_what_follows(
    broker: Shop, log: SQLiteStore
) -> None:
    odd = ["", " ", "a b", "a.b", "*", ">", "a\r\nNats-Rollup: all", "ä\n", "x" * 300]
    records = [charged(1, user) for user in odd]
    await log.insert_events([*records, charged(1, "ann")])

    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
    await log.insert_events([charged(2, "a b")])
    for _ in range(2):  # a session that finds such a fact at the end
        async with mirroring(broker, log) as mirror:
            await mirror.caught_up()

    async with session(broker) as js:
        heads = [(await js.get_msg(EVENTS, n)).headers or {} for n in range(1, len(odd) + 3)]
    events = await broker.events()
    assert [(event.position, event.raw) for event in events] == [
        (position, body) for position, _, body in await recorded(log)
    ]
    assert [stream_of(head[STREAM]) for head in heads] == [f"account-{user}" for user in [*odd, "ann", "a b"]]
    assert [head[MSG_ID] for head in heads] == [f"{head[STREAM]}@{head[VERSION]}" for head in heads]
    assert all(is_subject(event.subject) for event in events)
    assert events[-2].subject == "point.charged.ann"


async def test_a_fact_that_the_broker_does_not_take_is_named_and_what_is_before_it_is_published(
    broker: Shop, log: SQLiteStore
) -> None:
    await log.insert_events([charged(n, padding=10_000 if n == 40 else 0) for n in range(1, 81)])

    async with session(broker) as js:
        relay = Relay("point", log, client(js), max_bytes=8_192)
        with pytest.raises(FactTooLarge) as failed:
            await relay.run()

    assert "account-ann@40 at position 40 of point_svc's log" in str(failed.value)
    assert "nats stream edit EVENTS --max-msg-size" in str(failed.value)
    assert [event.position for event in await broker.events()] == list(range(1, 40))
    assert relay.acked == 39


async def test_it_publishes_into_a_new_generation_once_all_it_has_sent_is_acknowledged(log: SQLiteStore) -> None:
    await append(log, 1, 2)
    async with wired(log) as (wire, relay):
        first, second = await wire.replies(2)
        state = StreamState(0, 0, first_sequence(1), first_sequence(1) - 1, 0)
        relay.move_to(Leader(wire, StreamInfo(StreamConfig(name="EVENTS_1"), state)))
        await append(log, 3, 3)
        relay.log_has_grown()
        wire.answer(first, b"", b'{"stream":"EVENTS","seq":1}', b"")
        async for _ in attempts("the first acknowledgement"):
            if relay.acked == 1:
                break
        for _ in range(100):  # it has every opportunity
            await log.max_notification_id()
        assert wire.sent.empty()
        wire.answer(second, b"", b'{"stream":"EVENTS","seq":2}', b"")
        async with asyncio.timeout(PATIENCE_S):
            subject, *_ = await wire.sent.get()

    assert subject == "l1.point.charged.ann"
