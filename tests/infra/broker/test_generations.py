"""Generations of the stream on a real broker: what they store, how they are found, and where a relay goes on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from contracts.wire import MSG_ID, POSITION
from infra.archive.errors import ArchiveDamaged
from infra.archive.manifest import ArchivedLog
from infra.archive.reader import Archive
from infra.broker import archive_label
from infra.broker.consumers import ConsumerPlace, consumer_names, ensure_consumer
from infra.broker.errors import BrokerMisconfigured, ConnectionLost, LogLost, RelayFailed, StreamMisconfigured
from infra.broker.generations import Generations, ensure_generations, find_generations, generation_numbers
from infra.broker.leader import Leader
from infra.broker.numbering import (
    EVENTS,
    SPAN,
    first_sequence,
    generation_of,
    number_of,
    prefix,
    stream_name,
    stream_of_sequence,
)
from infra.broker.relay import Relay
from infra.broker.rolling import Sealing, due, overdue, roll
from infra.broker.stored import direct, last_message
from infra.broker.streams import stream_config
from infra.broker.window import WINDOW
from infra.settings import Settings
from infra.store.sqlite import SQLiteStore
from tests.infra.archive.test_archive import archived as archive
from tests.infra.archive.test_archive import told
from tests.infra.broker.mirroring import a_log, append, client, mirroring, session
from tests.shop import PATIENCE_S, Shop, attempts


@pytest.fixture
async def js(broker: Shop) -> AsyncIterator[JetStreamContext]:
    async with session(broker) as context:
        yield context


@pytest.fixture
async def log() -> AsyncIterator[SQLiteStore]:
    async with a_log() as store:
        yield store


def s() -> Settings:
    return Settings(port=1)


async def rolled(js: JetStreamContext) -> StreamInfo:
    made = await roll(client(js), js, s(), "a test")
    assert made is not None
    return made


async def seal(js: JetStreamContext, number: int = 0) -> None:
    info = await js.stream_info(stream_name(number))
    info.config.sealed = True
    await js.update_stream(info.config)


async def truncate(js: JetStreamContext, number: int, kept: int) -> None:
    """Lose the tail of a generation, as a power cut does: make it again with its first messages alone."""
    name = stream_name(number)
    messages = [await js.get_msg(name, first_sequence(number) + n) for n in range(kept)]
    config = (await js.stream_info(name)).config
    config.sealed = False
    await js.delete_stream(name)
    await js.add_stream(config)
    for message in messages:
        await js.publish(prefix(number) + str(message.subject), message.data or b"", headers=message.headers)


async def positions(js: JetStreamContext, number: int) -> list[int]:
    """The positions that a generation has, in its order."""
    info = await js.stream_info(stream_name(number))
    begin = first_sequence(number)
    found = [await js.get_msg(stream_name(number), begin + n) for n in range(info.state.messages)]
    return [int((message.headers or {})[POSITION]) for message in found]


async def publish(broker: Shop, log: SQLiteStore, first: int, last: int) -> None:
    """Record these charges, and publish them in a session of their own."""
    if first <= last:
        await append(log, first, last)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("EVENTS", 0),
        ("EVENTS_1", 1),
        ("EVENTS_42", 42),
        *[(name, None) for name in ("EVENTS_0", "EVENTS_01", "EVENTS_x", "DEAD", "XEVENTS_1", "EVENTS_1\n")],
    ],
)
def test_a_streams_name_says_which_generation_it_is(name: str, number: int | None) -> None:
    assert number_of(name) == number
    if number is not None:
        assert stream_name(number) == name


def test_a_sequence_says_which_generation_it_is_in() -> None:
    assert [generation_of(n) for n in (0, 1, SPAN, SPAN + 1, 2 * SPAN, 2 * SPAN + 1)] == [0, 0, 0, 1, 1, 2]
    assert (first_sequence(0), first_sequence(3), stream_of_sequence(first_sequence(3))) == (
        1,
        3 * SPAN + 1,
        "EVENTS_3",
    )
    assert (prefix(0), prefix(3)) == ("", "l3.")


# What a generation stores ---------------------------------------------------------------------------------------------


async def test_a_later_generation_stores_facts_under_their_own_subjects(js: JetStreamContext) -> None:
    await js.publish("point.charged.ann", b"1")
    await rolled(js)

    stored = await js.publish("l1.point.charged.ann", b"2", headers={MSG_ID: "a@1"})
    again = await js.publish("l1.point.charged.ann", b"2", headers={MSG_ID: "a@1"})

    assert (stored.stream, stored.seq, again.duplicate) == ("EVENTS_1", SPAN + 1, True)
    last = await last_message(client(js), "EVENTS_1", "point.>")
    assert last is not None
    assert (last.sequence, last.subject, last.body) == (SPAN + 1, "point.charged.ann", b"2")
    answer = await direct(client(js), "EVENTS_1", {"multi_last": ["point.charged.ann"], "batch": 5})
    assert [message.subject for message in answer.messages] == ["point.charged.ann"]
    assert (await js.stream_info(EVENTS)).state.last_seq == 1


async def test_a_consumer_of_a_later_generation_hears_by_the_facts_own_name(js: JetStreamContext) -> None:
    await js.publish("point.charged.ann", b"1")
    await rolled(js)
    place = ConsumerPlace("EVENTS_1", "coupon-hears-point-charged")
    assert await ensure_consumer(js, place, "point.charged", SPAN) <= SPAN
    await js.publish("l1.point.charged.ann", b"2")
    await js.publish("l1.point.used.o1", b"3")

    (message,) = await (await js.pull_subscribe_bind(place.name, place.stream)).fetch(2, timeout=1)

    assert (message.subject, message.data, place.key) == ("point.charged.ann", b"2", "coupon-hears-point-charged@1")


# Finding them ---------------------------------------------------------------------------------------------------------


async def test_the_first_generation_is_made_if_there_is_none(broker: Shop) -> None:
    async with broker.broker() as nc:
        found = await ensure_generations(nc, nc.jetstream(), s())

        assert (found.names, found.number, await generation_numbers(nc)) == ([EVENTS], 0, [0])


async def test_a_sealed_newest_generation_gets_a_successor(js: JetStreamContext) -> None:
    await seal(js)

    found = await ensure_generations(client(js), js, s())

    assert (found.names, found.sealed, found.number) == (["EVENTS_1", EVENTS], [EVENTS], 1)


async def test_other_streams_are_no_generations(js: JetStreamContext) -> None:
    await js.add_stream(name="EVENTS_x", subjects=["x"])
    await js.add_stream(name="OLD_EVENTS_1", subjects=["y"])

    assert await generation_numbers(client(js)) == [0]


async def test_a_look_finds_what_was_made_and_who_is_gone(js: JetStreamContext) -> None:
    await js.publish("point.charged.ann", b"1")
    found = await ensure_generations(client(js), js, s())
    assert await found.look(js) == []
    await rolled(js)
    (made,) = await found.look(js)
    assert (made.config.name, found.names) == ("EVENTS_1", ["EVENTS_1", EVENTS])
    await seal(js)
    await found.look(js)
    await js.delete_stream(EVENTS)
    with pytest.raises(ConnectionLost, match="EVENTS is gone, and no archive has it"):
        await found.look(js)


async def test_a_replaced_generation_ends_the_session(js: JetStreamContext) -> None:
    found = await ensure_generations(client(js), js, s())
    await js.delete_stream(EVENTS)
    await ensure_generations(client(js), js, s())

    with pytest.raises(ConnectionLost, match="replaced"):
        await found.look(js)


async def test_a_generation_with_another_transform_is_refused(js: JetStreamContext) -> None:
    await js.add_stream(name="EVENTS_1", subjects=["l1.>"])

    with pytest.raises(StreamMisconfigured, match="EVENTS_1 exists with settings"):
        await ensure_generations(client(js), js, s())


# The relay ------------------------------------------------------------------------------------------------------------


async def test_a_relay_goes_on_in_the_newest_generation(broker: Shop, js: JetStreamContext, log: SQLiteStore) -> None:
    await publish(broker, log, 1, 40)
    await rolled(js)
    await publish(broker, log, 41, 80)
    await publish(broker, log, 81, 80)  # a restart writes nothing

    assert await positions(js, 0) == [*range(1, 41)]
    assert await positions(js, 1) == [*range(41, 81)]


async def test_a_service_that_is_away_for_two_generations_goes_on_where_it_was(
    broker: Shop, js: JetStreamContext, log: SQLiteStore
) -> None:
    await publish(broker, log, 1, 5)
    for n in (1, 2):
        await rolled(js)
        await js.publish(f"l{n}.order.canceled.o1", b"{}")  # others go on
        await seal(js, n - 1)
    await publish(broker, log, 6, 9)

    assert await positions(js, 0) == [*range(1, 6)]
    assert [event.position for event in await broker.events()][-4:] == [6, 7, 8, 9]


async def test_a_relay_moves_while_it_runs_once_all_it_sent_is_acknowledged(
    broker: Shop, js: JetStreamContext, log: SQLiteStore
) -> None:
    await append(log, 1, 2_000)
    async with mirroring(broker, log) as mirror:
        async for _ in attempts("the relay to be at work"):
            if mirror.relay.acked:
                break
        made = await rolled(js)
        mirror.relay.move_to(Leader(client(js), made))
        await append(log, 2_001, 2_100)
        mirror.relay.log_has_grown()
        await mirror.caught_up()

    events = await broker.events()
    assert [event.position for event in events] == [*range(1, 2_101)]
    assert events[-1].sequence > SPAN


async def test_a_sealed_generation_refuses_a_relay_that_has_not_moved(
    broker: Shop, js: JetStreamContext, log: SQLiteStore
) -> None:
    await append(log, 1, 3)
    async with mirroring(broker, log) as mirror:
        await mirror.caught_up()
        await rolled(js)
        await seal(js)
        await append(log, 4, 9)
        mirror.relay.log_has_grown()
        error = await mirror.failed()
    assert isinstance(error, RelayFailed)
    assert "sealed" in str(error)
    await publish(broker, log, 10, 12)

    assert (await positions(js, 0), await positions(js, 1)) == ([1, 2, 3], [*range(4, 13)])


@pytest.mark.parametrize("kept", [0, 3, 10])
async def test_what_an_older_generation_lost_is_published_again_into_the_newest(
    broker: Shop, js: JetStreamContext, log: SQLiteStore, kept: int
) -> None:
    await publish(broker, log, 1, 10)
    await rolled(js)
    await publish(broker, log, 11, 20)
    await truncate(js, 0, kept)

    await publish(broker, log, 21, 25)
    await publish(broker, log, 26, 25)  # it is not sent again

    assert await positions(js, 0) == [*range(1, kept + 1)]
    assert sorted(await positions(js, 1)) == [*range(kept + 1, 26)]
    await rolled(js)
    await publish(broker, log, 26, 30)
    assert await positions(js, 2) == [*range(26, 31)]


@pytest.mark.parametrize("kept", [0, 250])
async def test_a_loss_further_back_than_the_window_is_published_again_once(
    broker: Shop, js: JetStreamContext, log: SQLiteStore, kept: int
) -> None:
    end = 300 + 2 * WINDOW
    await publish(broker, log, 1, 300)
    await rolled(js)
    await publish(broker, log, 301, end)
    await truncate(js, 0, kept)

    await publish(broker, log, end + 1, end + 2)
    await publish(broker, log, end + 3, end + 2)  # it is not sent again
    await rolled(js)
    await publish(broker, log, end + 3, end + 4)

    found = [event.position for event in await broker.events()]
    assert sorted(found) == [*range(1, end + 5)]
    assert found[kept:][-2:] == [end + 3, end + 4]


async def test_a_lost_generation_in_between_is_published_again(
    broker: Shop, js: JetStreamContext, log: SQLiteStore
) -> None:
    await publish(broker, log, 1, 10)
    await rolled(js)
    await publish(broker, log, 11, 20)
    await rolled(js)
    await publish(broker, log, 21, 30)
    await js.delete_stream("EVENTS_1")

    await publish(broker, log, 31, 32)

    assert sorted([*await positions(js, 0), *await positions(js, 2)]) == [*range(1, 33)]


async def test_a_newest_generation_that_was_lost_is_made_and_filled_again(
    broker: Shop, js: JetStreamContext, log: SQLiteStore
) -> None:
    await publish(broker, log, 1, 10)
    await rolled(js)
    await publish(broker, log, 11, 20)
    await seal(js)
    await js.delete_stream("EVENTS_1")

    assert (await ensure_generations(client(js), js, s())).number == 1
    await publish(broker, log, 21, 22)

    assert await positions(js, 1) == [*range(11, 23)]


async def test_nothing_is_published_up_to_the_floor_of_the_archive(
    broker: Shop, js: JetStreamContext, log: SQLiteStore
) -> None:
    await append(log, 1, 12)
    relay = Relay("point", log, client(js))
    await relay.find_resume_position(
        [Leader(client(js), await js.stream_info(EVENTS))], ArchivedLog(7, 7, "account-ann@7")
    )
    run = asyncio.create_task(relay.run())
    async with asyncio.timeout(PATIENCE_S):
        await relay.caught_up.wait()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)

    assert await positions(js, 0) == [*range(8, 13)]


async def test_a_service_that_was_quiet_publishes_nothing_of_what_is_archived(
    broker: Shop, js: JetStreamContext, log: SQLiteStore
) -> None:
    """All of its facts are in the archive; the streams have others alone, or nothing, as after the broker's loss."""
    await append(log, 1, 12)
    relay = Relay("point", log, client(js))
    await relay.find_resume_position(
        [Leader(client(js), await js.stream_info(EVENTS))], ArchivedLog(12, 12, "account-ann@12")
    )
    run = asyncio.create_task(relay.run())
    async with asyncio.timeout(PATIENCE_S):
        await relay.caught_up.wait()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)

    assert await positions(js, 0) == []


@pytest.mark.parametrize("archived", [ArchivedLog(7, 7, "account-ann@7"), ArchivedLog(3, 5, "account-bob@5")])
async def test_a_log_that_lacks_what_is_archived_is_lost(
    js: JetStreamContext, log: SQLiteStore, archived: ArchivedLog
) -> None:
    await append(log, 1, 5)
    relay = Relay("point", log, client(js))

    with pytest.raises(LogLost, match=f"the archive has {archived.last_id} at position {archived.last}"):
        await relay.find_resume_position([Leader(client(js), await js.stream_info(EVENTS))], archived)


async def test_after_the_loss_of_all_streams_the_first_one_that_is_not_archived_is_made(
    js: JetStreamContext, tmp_path: Path
) -> None:
    archive(tmp_path)
    await js.delete_stream(EVENTS)

    found = await ensure_generations(client(js), js, Settings(port=1, archive_dir=str(tmp_path)))

    assert found.names == ["EVENTS_1"]


async def test_an_archived_generation_may_go_while_a_session_is_at_work(js: JetStreamContext, tmp_path: Path) -> None:
    settings = Settings(port=1, archive_dir=str(tmp_path))
    await js.publish("point.charged.ann", b"1")
    await rolled(js)
    await seal(js)
    found = await ensure_generations(client(js), js, settings)
    archive(tmp_path)

    await js.delete_stream(EVENTS)

    assert (await found.look(js), found.names) == ([], ["EVENTS_1"])


async def test_another_systems_archive_is_refused_before_anything_is_made(js: JetStreamContext, tmp_path: Path) -> None:
    """It has a generation of the same name, and says nothing of this system's."""
    await js.publish("point.charged.ann", b"1")
    archive(tmp_path)
    settings = Settings(port=1, archive_dir=str(tmp_path))

    with pytest.raises(BrokerMisconfigured, match=r"another EVENTS than the broker, .* is it another system"):
        await ensure_generations(client(js), js, settings)

    assert await generation_numbers(client(js)) == [0]


@pytest.mark.parametrize("have", ["nothing", "an older copy", "another one"])
async def test_an_archive_that_the_streams_do_not_know_is_refused(
    js: JetStreamContext, tmp_path: Path, have: str
) -> None:
    right, other = tmp_path / "right", tmp_path / "other"
    for number in (0, 1):
        archive(right, number, [told(first_sequence(number))])
    await js.publish("point.charged.ann", b"1")
    await rolled(js)
    await js.publish("l1.point.charged.ann", b"1")
    await rolled(js)
    with pytest.raises(ArchiveDamaged, match="has not EVENTS_1, which was to leave the broker"):
        await archive_label.put(js, ["EVENTS_2"], Archive(tmp_path / "empty"), Archive(right).manifests[1])
    await archive_label.put(js, ["EVENTS_2"], Archive(right), Archive(right).manifests[1])
    for name in ("EVENTS", "EVENTS_1"):
        await js.delete_stream(name)
    if have != "nothing":
        archive(other, 0, [told(1)])
    if have == "another one":
        archive(other, 1, [told(first_sequence(1) + 1)])

    assert (await ensure_generations(client(js), js, Settings(port=1, archive_dir=str(right)))).names == ["EVENTS_2"]
    with pytest.raises(BrokerMisconfigured, match=r"EVENTS_1 is archived, but the archive .*/other has (not|another)"):
        await ensure_generations(client(js), js, Settings(port=1, archive_dir=str(other)))

    await archive_label.remove(js, ["EVENTS_2"])
    await ensure_generations(client(js), js, Settings(port=1, archive_dir=str(other)))


async def test_a_generation_that_is_archived_while_the_streams_are_listed_is_not_asked_for_again(
    js: JetStreamContext,
) -> None:
    await js.publish("point.charged.ann", b"1")
    await rolled(js)
    ask = js.stream_info

    async def stream_info(name: str) -> StreamInfo:
        if name == EVENTS:
            await js.delete_stream(EVENTS)
        return await ask(name)

    js.stream_info = stream_info  # type: ignore[method-assign, assignment]

    assert [info.config.name for info in await find_generations(client(js), js)] == ["EVENTS_1"]


async def test_a_damaged_archive_stops_the_session_and_says_the_next_step(js: JetStreamContext, tmp_path: Path) -> None:
    (tmp_path / "EVENTS.json").write_bytes(b"{")

    with pytest.raises(BrokerMisconfigured, match=r"EVENTS.json cannot be read: .* Put a copy of the archive back"):
        await ensure_generations(client(js), js, Settings(port=1, archive_dir=str(tmp_path)))


# Rolling over ---------------------------------------------------------------------------------------------------------


async def test_an_empty_generation_is_not_rolled_over(js: JetStreamContext) -> None:
    assert await roll(client(js), js, s(), "a test") is None
    await js.publish("point.charged.ann", b"1")
    await rolled(js)
    assert await roll(client(js), js, s(), "another keeper") is None
    assert await generation_numbers(client(js)) == [0, 1]


async def test_two_keepers_at_once_make_one_generation(js: JetStreamContext) -> None:
    await js.publish("point.charged.ann", b"1")

    await asyncio.gather(*(roll(client(js), js, s(), "a test") for _ in range(4)))

    assert await generation_numbers(client(js)) == [0, 1]


async def test_the_next_generation_has_the_consumers_of_listeners_and_no_others(js: JetStreamContext) -> None:
    await js.publish("point.charged.ann", b"1")
    for name, fact in consumer_names("coupon", ("point.used", "order.canceled")).items():
        await ensure_consumer(js, ConsumerPlace(EVENTS, name), fact, 1)
    await js.add_consumer(EVENTS, durable_name="old", ack_policy="all", filter_subjects=["a.*", "b.*"])
    await js.add_consumer(EVENTS, durable_name="someone", ack_policy="explicit")
    await rolled(js)

    made = {info.name: info.config for info in await js.consumers_info("EVENTS_1")}

    assert made.keys() == {"coupon-hears-point-used", "coupon-hears-order-canceled"}
    assert made["coupon-hears-point-used"].filter_subject == "point.used.*"


DUE = [
    ({"events_roll_messages": 3}, "it has 3 messages"),
    ({"events_roll_messages": 4}, None),
    ({"events_roll_bytes": 1_024}, None),
    ({"events_roll_age_s": 5.0}, "it is 0 days old"),
]


@pytest.mark.parametrize(("limits", "why"), DUE)
async def test_a_generation_is_due_by_messages_or_age(
    js: JetStreamContext, limits: dict[str, float], why: str | None
) -> None:
    now = datetime.now(UTC) + timedelta(seconds=10)
    assert due(await js.stream_info(EVENTS), replace(s(), events_roll_age_s=1.0), now) is None, "it is empty"
    for n in range(3):
        await js.publish(f"point.charged.ann{n}", b"1")

    assert due(await js.stream_info(EVENTS), replace(s(), **limits), now) == why


async def test_a_generation_is_due_by_bytes_and_long_before_it_is_full(js: JetStreamContext) -> None:
    await js.publish("point.charged.ann", b"x" * 2_000)
    info, now = await js.stream_info(EVENTS), datetime.now(UTC)
    assert due(info, s(), now) is None
    assert "bytes" in (due(info, replace(s(), events_roll_bytes=1_024), now) or "")
    info.config.max_bytes = 2 * info.state.bytes
    assert "bytes" in (due(info, s(), now) or "")


@pytest.mark.parametrize(("messages", "warned"), [(2, True), (3, False)])
async def test_a_service_warns_if_nobody_rolls_over(js: JetStreamContext, messages: int, warned: bool) -> None:
    for n in range(3):
        await js.publish(f"point.charged.ann{n}", b"1")

    told = overdue(await js.stream_info(EVENTS), replace(s(), events_roll_messages=messages), datetime.now(UTC))

    assert (told is not None and "is the keeper running (just stream keeper)?" in told) == warned


async def looks(js: JetStreamContext, sealing: Sealing, times: Sequence[float]) -> list[list[str]]:
    return [await sealing.look(js, await find_generations(client(js), js), now_s) for now_s in times]


async def test_an_older_generation_is_sealed_once_it_is_quiet(js: JetStreamContext) -> None:
    await js.publish("point.charged.ann", b"1")
    sealing = Sealing(quiet_s=10)
    assert await looks(js, sealing, (0, 100)) == [[], []], "it is the newest"
    await rolled(js)
    assert await looks(js, sealing, (200, 205)) == [[], []]
    await js.publish("point.charged.ann", b"2")  # by a service that has not moved yet
    assert await looks(js, sealing, (210, 215, 220)) == [[], [], [EVENTS]]

    info = await js.stream_info(EVENTS)
    assert (info.config.sealed, info.state.messages) == (True, 2)
    assert (info.config.max_bytes or 0) < 2 << 20, "its room is free for others"
    assert await looks(js, sealing, (300,)) == [[]]


async def test_a_keeper_that_was_killed_after_sealing_frees_the_room_the_next_time(js: JetStreamContext) -> None:
    await js.publish("point.charged.ann", b"1")
    await rolled(js)
    await seal(js)

    await looks(js, Sealing(), (0,))

    info = await js.stream_info(EVENTS)
    assert ((info.config.max_bytes or 0) < 2 << 20, info.state.messages) == (True, 1)


async def test_a_sealed_generation_that_was_replaced_ends_the_session(js: JetStreamContext) -> None:
    await js.publish("point.charged.ann", b"1")
    await rolled(js)
    await seal(js)
    found = Generations(client(js), s(), await find_generations(client(js), js))
    await js.delete_stream(EVENTS)
    await js.add_stream(stream_config(s()))

    with pytest.raises(ConnectionLost, match="replaced"):
        await found.look(js)
