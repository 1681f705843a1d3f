"""Rejected messages on a real broker: retried, then dead-lettered in order, and acknowledged no earlier."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType, StreamConfig, StreamSource
from nats.js.errors import NotFoundError

from contracts import Fact
from infra.broker.consumers import ConsumerPlace
from infra.broker.errors import ConnectionLost, ConsumerFailed, StreamMisconfigured
from infra.broker.numbering import EVENTS
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer_session import ConsumerSession
from infra.consuming.dead_letter import DEAD, DeadLetter, stream_config
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.retry_queue import RetryQueue, SessionOver
from infra.consuming.stored_dead_letters import read
from infra.core.errors import StoreUnavailable
from infra.core.messages import Acknowledger, Delivery, StreamPosition
from infra.settings import Settings
from tests.infra.broker.mirroring import client, session
from tests.infra.purse import issued
from tests.shop import Shop, attempts

NO_PAUSES = (0.0, 0.0, 0.0)
SETTINGS = Settings(port=1, events_max_bytes=1 << 24)


class Handler:
    """Handles all messages but those in `fails`, and remembers its attempts. It waits at the gate of a key, if any."""

    def __init__(self) -> None:
        self.fails: set[str] = set()
        self.store_fails = False
        self.gates: dict[str, asyncio.Event] = {}
        self.attempts: list[str] = []
        self.handled: list[str] = []

    def handle(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        """The tests reject deliveries themselves."""

    async def attempt(self, delivery: Delivery) -> Sequence[Fact]:
        self.attempts.append(delivery.fact_id)
        if gate := self.gates.get(delivery.key):
            await gate.wait()
        if self.store_fails:
            raise StoreUnavailable("disk full")
        if delivery.fact_id in self.fails:
            raise ValueError(f"not {delivery.fact_id}")
        self.handled.append(delivery.fact_id)
        return [issued("ann")]

    async def preview(self, messages: Sequence[Delivery]) -> list[Sequence[Fact] | Exception]:
        outcomes: list[Sequence[Fact] | Exception] = []
        for delivery in messages:
            outcomes.append(ValueError("not yet") if delivery.fact_id in self.fails else [issued("ann")])
            if isinstance(outcomes[-1], Exception):
                break
        return outcomes


class Desk:
    """A session's retry queue at work."""

    def __init__(self, js: JetStreamContext, dead_letters: DeadLetters) -> None:
        self.js = js
        self.dead_letters = dead_letters
        self.handler = Handler()
        self.resolved: list[str] = []
        self.errors: list[Exception] = []
        self.retry_queue = RetryQueue(
            self.handler,
            dead_letters,
            self.errors.append,
            pauses_s=NO_PAUSES,
        )

    def takes(self, delivery: Delivery) -> bool:
        return self.retry_queue.takes(delivery, self._resolved)

    def rejected(self, delivery: Delivery, error: Exception) -> None:
        self.retry_queue.rejected(delivery, self._resolved, error)

    def _resolved(self, delivery: Delivery) -> None:
        self.resolved.append(delivery.fact_id)

    async def in_stream(self) -> list[DeadLetter]:
        return [dead_letter async for dead_letter in read(client(self.js), "dead.>")]

    async def until_resolved(self, *fact_ids: str) -> None:
        async for _ in attempts(f"{fact_ids} to be resolved"):
            if self.resolved == list(fact_ids):
                return


def message(fact_id: str, key: str = "k", number: int = 1) -> Delivery:
    return Delivery(
        fact_id, fact_id.encode(), f"ack.{number}", StreamPosition(number, number), f"point.used.{key}", b"", number
    )


@contextlib.asynccontextmanager
async def retry_queue(broker: Shop, dead_letters: DeadLetters | None = None) -> AsyncIterator[Desk]:
    async with session(broker) as js:
        dead_letters = dead_letters or DeadLetters("coupon", SETTINGS, lambda: datetime(2026, 3, 1, tzinfo=UTC))
        await dead_letters.open(client(js))
        desk = Desk(js, dead_letters)
        try:
            yield desk
        finally:
            desk.retry_queue.close()


async def test_what_can_be_handled_after_all_is_not_dead_lettered(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.rejected(message("a@1"), ValueError("a hiccup"))
        await desk.until_resolved("a@1")

        assert desk.handler.handled == ["a@1"]
        assert await desk.in_stream() == []
        assert not desk.takes(message("b@1"))


async def test_what_is_refused_four_times_is_dead_lettered_and_resolved_no_earlier(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.fails = {"a@1"}
        desk.rejected(message("a@1"), ValueError("at first"))
        await desk.until_resolved("a@1")

        (dead_letter,) = await desk.in_stream()
        assert desk.handler.attempts == ["a@1"] * 3
        assert (dead_letter.attempts, dead_letter.error, dead_letter.body) == (4, "ValueError: not a@1", b"a@1")
        assert desk.dead_letters.depth == 1


async def test_all_of_one_key_waits_in_its_order_and_other_keys_do_not(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        gate = desk.handler.gates["k"] = asyncio.Event()
        desk.rejected(message("a@1"), ValueError("at first"))

        assert desk.takes(message("b@1"))
        assert desk.takes(message("c@1"))
        assert not desk.takes(message("d@1", key="another"))
        gate.set()
        await desk.until_resolved("a@1", "b@1", "c@1")

        assert desk.handler.handled == ["a@1", "b@1", "c@1"]


async def test_messages_behind_a_dead_letter_of_their_key_are_dead_lettered_untried(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.fails = {"a@1"}
        desk.rejected(message("a@1"), ValueError("at first"))
        assert desk.takes(message("b@1", number=2))
        await desk.until_resolved("a@1", "b@1")
        assert desk.takes(message("c@1", number=3))
        await desk.until_resolved("a@1", "b@1", "c@1")

        found = await desk.in_stream()
        assert [(dead_letter.fact_id, dead_letter.attempts) for dead_letter in found] == [
            ("a@1", 4),
            ("b@1", 0),
            ("c@1", 0),
        ]
        assert "b@1" not in desk.handler.attempts


async def test_what_comes_again_is_not_dead_lettered_twice(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.fails = {"a@1"}
        desk.rejected(message("a@1"), ValueError("at first"))
        assert desk.takes(message("a@1", number=9))
        await desk.until_resolved("a@1", "a@1")

        assert len(await desk.in_stream()) == 1


async def test_a_store_that_fails_ends_the_session_and_dead_letters_nothing(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.store_fails = True
        desk.rejected(message("a@1"), ValueError("at first"))
        async for _ in attempts("the session to end"):
            if desk.errors:
                break

        assert isinstance(desk.errors[0], StoreUnavailable)
        assert (desk.resolved, await desk.in_stream()) == ([], [])
        assert desk.takes(message("b@1"))  # until the session has ended nothing may pass


async def test_a_broker_that_takes_no_dead_letter_ends_the_session(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.fails = {"a@1"}
        await desk.js.delete_stream(DEAD)
        desk.rejected(message("a@1"), ValueError("at first"))
        async for _ in attempts("the session to end"):
            if desk.errors:
                break

        assert desk.resolved == []


# Redriving ------------------------------------------------------------------------------------------------------------


async def dead_lettered(desk: Desk, *fact_ids: str) -> None:
    first, *others = fact_ids
    desk.handler.fails = {first}
    desk.rejected(message(first), ValueError("at first"))
    for number, fact_id in enumerate(others, 2):
        assert desk.takes(message(fact_id, number=number))
    await desk.until_resolved(*fact_ids)
    desk.handler.attempts.clear()


async def test_dead_letters_are_redriven_in_their_order_and_deleted(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1")
        desk.handler.fails.clear()

        done = await desk.retry_queue.redrive("k", dry_run=False)

        assert [(one.dead_letter.fact_id, len(one.facts), one.error) for one in done] == [
            ("a@1", 1, None),
            ("b@1", 1, None),
        ]
        assert desk.handler.handled == ["a@1", "b@1"]
        assert await desk.in_stream() == []
        assert not desk.takes(message("c@1"))
        assert await desk.retry_queue.redrive("k", dry_run=False) == []


async def test_a_redrive_stops_at_the_first_that_still_cannot_be_handled(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1", "c@1")
        desk.handler.fails = {"b@1"}

        done = await desk.retry_queue.redrive("k", dry_run=False)

        assert [str(one.error) for one in done] == ["None", "not b@1"]
        assert [dead_letter.fact_id for dead_letter in await desk.in_stream()] == ["b@1", "c@1"]
        assert desk.handler.handled == ["a@1"]


async def test_a_preview_changes_nothing(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1")
        desk.handler.fails = {"b@1"}

        done = await desk.retry_queue.redrive("k", dry_run=True)

        assert [(len(one.facts), str(one.error)) for one in done] == [(1, "None"), (0, "not yet")]
        assert len(await desk.in_stream()) == 2
        assert desk.handler.attempts == []


async def test_what_comes_during_a_redrive_waits_for_its_end(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1")
        desk.handler.fails.clear()
        gate = desk.handler.gates["k"] = asyncio.Event()
        redriving = asyncio.create_task(desk.retry_queue.redrive("k", dry_run=False))
        async for _ in attempts("the redrive to begin"):
            if desk.handler.attempts:
                break

        assert desk.takes(message("c@1"))
        gate.set()
        await redriving
        await desk.until_resolved("a@1", "b@1", "c@1")

        assert desk.handler.handled == ["a@1", "b@1", "c@1"]
        assert await desk.in_stream() == []


async def test_who_waits_for_a_redrive_learns_that_the_session_is_over(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1")
        desk.handler.gates["k"] = asyncio.Event()
        redriving = asyncio.create_task(desk.retry_queue.redrive("k", dry_run=False))
        async for _ in attempts("the redrive to begin"):
            if desk.handler.attempts:
                break
        desk.retry_queue.close()

        with pytest.raises(SessionOver):
            await redriving
        assert len(await desk.in_stream()) == 1


async def test_nothing_is_retried_that_is_rejected_after_the_session_is_over(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.fails = {"a@1"}
        desk.retry_queue.close()

        desk.rejected(message("a@1"), ValueError("it was being decided"))

        with pytest.raises(SessionOver):
            await desk.retry_queue.redrive("k", dry_run=False)
        assert not desk.retry_queue._tasks
        assert (desk.handler.attempts, desk.resolved) == ([], [])


async def test_a_foreign_message_with_a_facts_id_does_not_hide_the_fact(broker: Shop) -> None:
    """Ids can be foretold. Dropping the foreign message leaves the fact, to be redriven."""
    fact = message("a@1", number=2)
    foreign = fact._replace(body=b"foreign", position=StreamPosition(1, 1))
    async with retry_queue(broker) as desk:
        desk.handler.fails = {"a@1"}
        desk.rejected(foreign, ValueError("foreign"))
        assert desk.takes(fact)
        assert desk.takes(fact._replace(position=StreamPosition(3, 3)))  # the fact again, in another generation
        await desk.until_resolved("a@1", "a@1", "a@1")

        assert [one.body for one in await desk.in_stream()] == [b"foreign", b"a@1"]


async def test_dead_letters_that_were_deleted_by_hand_are_gone(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1", "c@1")
        desk.handler.fails.clear()
        first, second, third = await desk.in_stream()
        await desk.js.delete_msg(DEAD, first.sequence)
        await desk.js.delete_msg(DEAD, third.sequence)

        assert await desk.retry_queue.drop("k", third.sequence) is not None
        assert [one.dead_letter.fact_id for one in await desk.retry_queue.redrive("k", dry_run=True)] == ["b@1"]
        assert [one.dead_letter.fact_id for one in await desk.retry_queue.redrive("k", dry_run=False)] == ["b@1"]
        assert second not in await desk.in_stream()
        assert not desk.takes(message("d@1"))


async def test_without_dead_nothing_is_redriven_and_the_next_session_makes_it_again(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1")
        before = await desk.in_stream()
        await desk.js.delete_stream(DEAD)

        assert await desk.in_stream() == []
        with pytest.raises(NotFoundError):
            await desk.retry_queue.redrive("k", dry_run=False)

    async with retry_queue(broker, desk.dead_letters) as again:
        assert await again.in_stream() == before


# Sessions -------------------------------------------------------------------------------------------------------------


async def test_the_next_process_knows_the_dead_letters_with_all_their_fields(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1")
        written = await desk.in_stream()

    async with retry_queue(broker) as again:
        assert again.dead_letters.depth == 2
        assert again.dead_letters.oldest == datetime(2026, 3, 1, tzinfo=UTC)
        assert again.takes(message("c@1"))
        assert [await again.dead_letters.load(dead_letter) for dead_letter in again.dead_letters.of("k")] == written


async def test_dead_letters_that_the_broker_lost_are_written_again_in_their_order(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1")
        before = await desk.in_stream()
        await desk.js.delete_msg(DEAD, before[1].sequence)
        dead_letters = desk.dead_letters

    async with retry_queue(broker, dead_letters) as again:
        after = await again.in_stream()
        assert [(dead_letter.fact_id, dead_letter.body, dead_letter.error) for dead_letter in after] == [
            (dead_letter.fact_id, dead_letter.body, dead_letter.error) for dead_letter in before
        ]
        assert [dead_letter.fact_id for dead_letter in again.dead_letters.of("k")] == ["a@1", "b@1"]


async def test_a_lost_dead_letter_that_cannot_be_written_again_now_is_at_the_next_session(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1")
        before = await desk.in_stream()
        await desk.js.delete_msg(DEAD, before[1].sequence)
        full = await desk.js.stream_info(DEAD)
        await desk.js.update_stream(full.config.evolve(max_bytes=full.state.bytes))

    with pytest.raises(ConsumerFailed, match="the broker takes no dead letter of k into DEAD"):
        async with retry_queue(broker, desk.dead_letters):
            pass
    async with session(broker) as js:
        await js.update_stream(full.config)

    async with retry_queue(broker, desk.dead_letters) as again:
        assert [dead_letter.fact_id for dead_letter in await again.in_stream()] == ["a@1", "b@1"]


async def test_a_listed_dead_letter_is_never_taken_for_another_one_at_its_sequence(broker: Shop) -> None:
    """Somebody replaced DEAD during the session, and another listener's dead letter has the sequence now."""
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1")
        first, second = before = await desk.in_stream()
        await desk.js.delete_stream(DEAD)
        others = DeadLetters("point", SETTINGS, lambda: datetime(2026, 3, 1, tzinfo=UTC))
        await others.open(client(desk.js))
        for key in ("k", "l"):
            await others.add(message(f"{key}@9", key), ValueError("another one"), 4)
        (one, other) = written = await desk.in_stream()
        assert [one.sequence, other.sequence] == [first.sequence, second.sequence]
        desk.handler.fails.clear()

        with pytest.raises(ConnectionLost, match="DEAD was replaced"):
            await desk.dead_letters.check(desk.js)
        assert await desk.retry_queue.drop("k", second.sequence) is not None
        assert await desk.retry_queue.redrive("k", dry_run=True) == []
        assert await desk.retry_queue.redrive("k", dry_run=False) == []
        assert (desk.handler.attempts, await desk.in_stream()) == ([], written)

    async with retry_queue(broker, desk.dead_letters) as again:  # what was dropped stays dropped
        assert [(one.consumer, one.fact_id) for one in await again.in_stream()] == [
            *((one.consumer, one.fact_id) for one in written),
            ("coupon", before[0].fact_id),
        ]


async def test_a_lost_dead_letter_whose_sequence_another_one_got_is_written_again(broker: Shop) -> None:
    """The broker refused it in the session that wrote the first one again, at the sequence of the second."""
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1")
        its_bytes = (await desk.js.stream_info(DEAD)).state.bytes
        assert desk.takes(message("b@1", number=2))
        await desk.until_resolved("a@1", "b@1")
        await desk.js.delete_stream(DEAD)
        others = DeadLetters("point", SETTINGS, lambda: datetime(2026, 3, 1, tzinfo=UTC))
        await others.open(client(desk.js))
        await others.add(message("c@1", "l"), ValueError("another one"), 4)
        room = await desk.js.stream_info(DEAD)
        await desk.js.update_stream(room.config.evolve(max_bytes=room.state.bytes + its_bytes))

    with pytest.raises(ConsumerFailed, match="the broker takes no dead letter of k into DEAD"):
        async with retry_queue(broker, desk.dead_letters):
            pass
    async with session(broker) as js:
        await js.update_stream(room.config)

    for _ in range(2):  # and then not once more
        async with retry_queue(broker, desk.dead_letters) as again:
            assert [one.fact_id for one in await again.in_stream()] == ["c@1", "a@1", "b@1"]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        pytest.param(
            {"storage": StorageType.MEMORY, "max_bytes": 1 << 20}, "storage is memory, must be", id="in memory"
        ),
        pytest.param({"discard": DiscardPolicy.OLD}, "discard is old, must be new", id="drops the oldest"),
        pytest.param({"max_age": 86_400}, r"max_age is 86400(\.0)?, must be 0", id="forgets after a day"),
        pytest.param({"max_msgs_per_subject": 1}, "max_msgs_per_subject is 1, must be -1", id="keeps one of a key"),
        pytest.param({"deny_delete": True}, "deny_delete is True, must be False", id="cannot be deleted from"),
    ],
)
async def test_a_stream_that_could_lose_dead_letters_is_refused(
    broker: Shop, changes: dict[str, Any], difference: str
) -> None:
    async with session(broker) as js:
        config = stream_config(SETTINGS)
        for name, value in changes.items():
            setattr(config, name, value)
        await js.add_stream(config)

        with pytest.raises(StreamMisconfigured, match=f"DEAD exists with settings .*{difference}"):
            await DeadLetters("coupon", SETTINGS).open(client(js))

        assert (await js.stream_info(DEAD)).config.discard == config.discard


async def test_of_another_consumers_dead_letters_it_knows_nothing(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1")

    async with retry_queue(broker, DeadLetters("point", SETTINGS)) as other:
        assert other.dead_letters.empty
        assert not other.takes(message("b@1"))


@pytest.mark.parametrize(
    "text", ["täg", "a\r\nb: c", "\\n \\", "\x00\x7f"], ids=["umlaut", "lines", "escapes", "control"]
)
async def test_a_dead_letter_keeps_the_message_byte_for_byte(broker: Shop, text: str) -> None:
    async with session(broker) as js:
        dead_letters = DeadLetters("coupon", SETTINGS)
        await dead_letters.open(client(js))
        delivery = message("a@1")._replace(body=text.encode(), raw_headers=text.encode(), fact_id=text)
        await dead_letters.add(delivery, ValueError(text), 4)

        (dead_letter,) = [one async for one in read(client(js), "dead.>")]

    assert (dead_letter.body, dead_letter.head, dead_letter.fact_id) == (text.encode(), text.encode(), text)
    assert dead_letter.error == f"ValueError: {text}"
    assert dead_letter.delivery.position == delivery.position


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"Dead-At": "yesterday", "Dead-Attempts": "many", "Dead-Stored": "-1"}, id="no numbers"),
        pytest.param(
            {"Dead-At": "2026-03-01T00:00:00", "Dead-Error": "\\x", "Dead-Headers": "\\u1234"}, id="no escapes"
        ),
    ],
)
async def test_what_somebody_else_wrote_there_holds_its_key_and_stops_no_session(
    broker: Shop, headers: dict[str, str]
) -> None:
    async with retry_queue(broker) as desk:
        await desk.js.publish("dead.coupon.k", b"theirs", headers=headers)

    async with retry_queue(broker) as again:
        assert again.dead_letters.depth == 1
        assert again.takes(message("a@1"))
        assert again.dead_letters.oldest is not None
        (first, *_) = again.dead_letters.of("k")
        assert (first.attempts, first.origin) == (0, StreamPosition(0, 0))


async def send_raw(desk: Desk, subject: str, headers: bytes, body: bytes = b"theirs") -> None:
    """Publish a message with these bytes as its headers, which nats-py would refuse to write."""
    nc = client(desk.js)
    raw = b"NATS/1.0\r\n" + headers + b"\r\n"
    line = f"HPUB {subject} {len(raw)} {len(raw) + len(body)}\r\n".encode()
    await nc._send_command(line + raw + body + b"\r\n")
    await nc.flush()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param("Dead-Error: für\r\nDead-At: für\r\n".encode(), id="not ASCII"),
        pytest.param(b"Dead-Error: \xff\xfe\r\n", id="not UTF-8"),
        pytest.param(b"Dead-Attempts: " + b"9" * 5_000 + b"\r\n", id="a number of 5,000 digits"),
        pytest.param(b"Content-Type: message/rfc822\r\n\r\n" * 2_000, id="an e-mail in an e-mail, 2,000 deep"),
        pytest.param(b"Nats-Sequence: 77\r\nNats-Stream: OTHER\r\nStatus: 204\r\n", id="the server's own headers"),
    ],
)
async def test_headers_that_nobody_should_write_stop_no_session(broker: Shop, headers: bytes) -> None:
    async with retry_queue(broker) as desk:
        await send_raw(desk, "dead.coupon.k", headers)

    async with retry_queue(broker) as again:
        (listed,) = again.dead_letters.of("k")
        loaded = await again.dead_letters.load(listed)
        assert loaded is not None
        assert (listed.sequence, loaded.body) == (1, b"theirs")
        assert [letter.sequence for letter in await again.in_stream()] == [1]


async def test_a_message_of_the_largest_size_and_the_longest_subject_is_dead_lettered(broker: Shop) -> None:
    delivery = message("x" * 30_000, key="k" * 4_000)._replace(body=b"b" * 300_000, raw_headers=b"\xff" * 60_000)
    async with retry_queue(broker) as desk:
        await desk.dead_letters.add(delivery, ValueError("e" * 100_000), 4)

        assert desk.dead_letters.has(delivery.key)
        (dead_letter,) = await desk.in_stream()
        assert dead_letter.key == delivery.key
        assert dead_letter.subject == delivery.subject
        assert dead_letter.cut == "Fact-Id Headers Body"

    async with retry_queue(broker) as again:
        assert again.takes(delivery)
        await again.until_resolved(delivery.fact_id)
        assert again.dead_letters.depth == 1  # the delivery was known: by its stream position


async def test_a_full_stream_says_what_to_do(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        config = (await desk.js.stream_info(DEAD)).config
        config.max_bytes = 1_000
        await desk.js.update_stream(config)

        with pytest.raises(
            ConsumerFailed, match=r"no dead letter of k into DEAD: .*maximum bytes exceeded.*just dlq ls"
        ):
            await desk.dead_letters.add(message("a@1"), ValueError("e" * 1_000), 4)


async def park_many(desk: Desk, count: int) -> None:
    for n in range(count):
        await desk.js._nc.publish(f"dead.coupon.k{n % 40}", b"%d" % n, headers={"Dead-Error": "x" * 1_500})
    await desk.js._nc.flush()


async def test_many_dead_letters_are_read_with_few_requests(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await park_many(desk, 2_500)

    async with session(broker) as js:
        before = client(js).stats["out_msgs"]
        dead_letters = DeadLetters("coupon", SETTINGS)
        await dead_letters.open(client(js))

        assert dead_letters.depth == 2_500
        assert client(js).stats["out_msgs"] - before < 20


async def test_while_the_stream_is_read_again_and_after_that_failed_the_list_stays(
    broker: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with retry_queue(broker) as desk:
        await park_many(desk, 3)
        await desk.dead_letters.open(client(desk.js))
        seen = []

        async def interrupted(*args: Any, **kwargs: Any) -> AsyncIterator[DeadLetter]:
            async for dead_letter in read(*args, **kwargs):
                seen.append(desk.dead_letters.depth)
                yield dead_letter
                raise ConnectionResetError

        monkeypatch.setattr("infra.consuming.dead_letters.read", interrupted)
        with pytest.raises(ConnectionResetError):
            await desk.dead_letters.open(client(desk.js))

        assert (seen, desk.dead_letters.depth) == ([3], 3)


async def test_a_mirror_that_lacks_dead_letters_hides_none(broker: Shop) -> None:
    """It answers direct gets in the place of the stream, which is away here, with what it has."""
    async with retry_queue(broker) as desk:
        await park_many(desk, 80)
        few = StreamConfig(
            name="FEW", mirror=StreamSource(name=DEAD, filter_subject="dead.coupon.k7"), mirror_direct=True
        )
        await desk.js.add_stream(few)
        async for _ in attempts("the mirror to have its two"):
            if (await desk.js.stream_info("FEW")).state.messages == 2:
                break

        for _ in range(20):  # whoever is faster answers
            again = DeadLetters("coupon", SETTINGS)
            await again.open(client(desk.js))
            assert again.depth == 80


async def test_a_stream_from_before_direct_gets_is_updated(broker: Shop) -> None:
    async with session(broker) as js:
        config = stream_config(SETTINGS)
        config.allow_direct = False
        await js.add_stream(config)

        await DeadLetters("coupon", SETTINGS).open(client(js))

        assert (await js.stream_info(DEAD)).config.allow_direct


# Acknowledgements -----------------------------------------------------------------------------------------------------


async def test_an_acknowledgement_stops_before_what_waits_and_goes_on_behind_it(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        handler = desk.handler
        handler.gates = {"k": asyncio.Event(), "l": asyncio.Event()}
        received = {ConsumerPlace(EVENTS, "coupon-hears-point-used"): ReceivedPositions()}
        consumers = ConsumerSession("coupon", client(desk.js), handler, received, desk.dead_letters, pauses_s=NO_PAUSES)
        (consumer,) = consumers.consumers

        consumer.handled(message("a@1", number=1))
        assert consumer._to_acknowledge == "ack.1"
        consumer.rejected(message("b@1", "k", 2), ValueError("at first"))
        consumer.rejected(message("c@1", "l", 4), ValueError("at first"))
        consumer.handled(message("d@1", "m", 3))
        consumer.handled(message("e@1", "m", 5))
        assert consumer._to_acknowledge == "ack.1"
        handler.gates["k"].set()
        async for _ in attempts("the first to be handled"):
            if consumer._to_acknowledge == "ack.3":
                break
        assert handler.handled == ["b@1"]
        handler.gates["l"].set()
        async for _ in attempts("the second to be handled"):
            if consumer._to_acknowledge == "ack.5":
                break
        consumers.retry_queue.close()
