"""Rejected messages on a real broker: retried, then dead-lettered in order, and acknowledged no earlier."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType

from contracts import Fact
from infra.broker.errors import StreamMisconfigured
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer import ConsumerSession
from infra.consuming.dead_letter import DEAD, DeadLetter, read, stream_config
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.retry_queue import RetryQueue, SessionOver
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
            lambda delivery: self.resolved.append(delivery.fact_id),
            self.errors.append,
            pauses_s=NO_PAUSES,
        )

    async def in_stream(self) -> list[DeadLetter]:
        return [dead_letter async for dead_letter in read(self.js, "dead.>")]

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
        await dead_letters.open(js)
        desk = Desk(js, dead_letters)
        try:
            yield desk
        finally:
            desk.retry_queue.close()


async def test_what_can_be_handled_after_all_is_not_dead_lettered(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.retry_queue.rejected(message("a@1"), ValueError("a hiccup"))
        await desk.until_resolved("a@1")

        assert desk.handler.handled == ["a@1"]
        assert await desk.in_stream() == []
        assert not desk.retry_queue.takes(message("b@1"))


async def test_what_is_refused_four_times_is_dead_lettered_and_resolved_no_earlier(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.fails = {"a@1"}
        desk.retry_queue.rejected(message("a@1"), ValueError("at first"))
        await desk.until_resolved("a@1")

        (dead_letter,) = await desk.in_stream()
        assert desk.handler.attempts == ["a@1"] * 3
        assert (dead_letter.attempts, dead_letter.error, dead_letter.body) == (4, "ValueError: not a@1", b"a@1")
        assert desk.dead_letters.depth == 1


async def test_all_of_one_key_waits_in_its_order_and_other_keys_do_not(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        gate = desk.handler.gates["k"] = asyncio.Event()
        desk.retry_queue.rejected(message("a@1"), ValueError("at first"))

        assert desk.retry_queue.takes(message("b@1"))
        assert desk.retry_queue.takes(message("c@1"))
        assert not desk.retry_queue.takes(message("d@1", key="another"))
        gate.set()
        await desk.until_resolved("a@1", "b@1", "c@1")

        assert desk.handler.handled == ["a@1", "b@1", "c@1"]


async def test_messages_behind_a_dead_letter_of_their_key_are_dead_lettered_untried(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.fails = {"a@1"}
        desk.retry_queue.rejected(message("a@1"), ValueError("at first"))
        assert desk.retry_queue.takes(message("b@1", number=2))
        await desk.until_resolved("a@1", "b@1")
        assert desk.retry_queue.takes(message("c@1", number=3))
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
        desk.retry_queue.rejected(message("a@1"), ValueError("at first"))
        assert desk.retry_queue.takes(message("a@1", number=9))
        await desk.until_resolved("a@1", "a@1")

        assert len(await desk.in_stream()) == 1


async def test_a_store_that_fails_ends_the_session_and_dead_letters_nothing(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.store_fails = True
        desk.retry_queue.rejected(message("a@1"), ValueError("at first"))
        async for _ in attempts("the session to end"):
            if desk.errors:
                break

        assert isinstance(desk.errors[0], StoreUnavailable)
        assert (desk.resolved, await desk.in_stream()) == ([], [])
        assert desk.retry_queue.takes(message("b@1"))  # until the session has ended nothing may pass


async def test_a_broker_that_takes_no_dead_letter_ends_the_session(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        desk.handler.fails = {"a@1"}
        await desk.js.delete_stream(DEAD)
        desk.retry_queue.rejected(message("a@1"), ValueError("at first"))
        async for _ in attempts("the session to end"):
            if desk.errors:
                break

        assert desk.resolved == []


# Redriving ------------------------------------------------------------------------------------------------------------


async def dead_lettered(desk: Desk, *fact_ids: str) -> None:
    first, *others = fact_ids
    desk.handler.fails = {first}
    desk.retry_queue.rejected(message(first), ValueError("at first"))
    for number, fact_id in enumerate(others, 2):
        assert desk.retry_queue.takes(message(fact_id, number=number))
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
        assert not desk.retry_queue.takes(message("c@1"))
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

        assert desk.retry_queue.takes(message("c@1"))
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
        assert not desk.retry_queue.takes(message("d@1"))


# Sessions -------------------------------------------------------------------------------------------------------------


async def test_the_next_process_knows_the_dead_letters_with_all_their_fields(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1", "b@1")
        written = await desk.in_stream()

    async with retry_queue(broker) as again:
        assert again.dead_letters.depth == 2
        assert again.dead_letters.oldest == datetime(2026, 3, 1, tzinfo=UTC)
        assert again.retry_queue.takes(message("c@1"))
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
            await DeadLetters("coupon", SETTINGS).open(js)

        assert (await js.stream_info(DEAD)).config.discard == config.discard


async def test_of_another_consumers_dead_letters_it_knows_nothing(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        await dead_lettered(desk, "a@1")

    async with retry_queue(broker, DeadLetters("point", SETTINGS)) as other:
        assert other.dead_letters.empty
        assert not other.retry_queue.takes(message("b@1"))


@pytest.mark.parametrize(
    "text", ["täg", "a\r\nb: c", "\\n \\", "\x00\x7f"], ids=["umlaut", "lines", "escapes", "control"]
)
async def test_a_dead_letter_keeps_the_message_byte_for_byte(broker: Shop, text: str) -> None:
    async with session(broker) as js:
        dead_letters = DeadLetters("coupon", SETTINGS)
        await dead_letters.open(js)
        delivery = message("a@1")._replace(body=text.encode(), raw_headers=text.encode(), fact_id=text)
        await dead_letters.add(delivery, ValueError(text), 4)

        (dead_letter,) = [one async for one in read(js, "dead.>")]

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
        assert again.retry_queue.takes(message("a@1"))
        assert again.dead_letters.oldest is not None
        (first, *_) = again.dead_letters.of("k")
        assert (first.attempts, first.origin) == (0, StreamPosition(0, 0))


# Acknowledgements -----------------------------------------------------------------------------------------------------


async def test_an_acknowledgement_stops_before_what_waits_and_goes_on_behind_it(broker: Shop) -> None:
    async with retry_queue(broker) as desk:
        handler = desk.handler
        handler.gates = {"k": asyncio.Event(), "l": asyncio.Event()}
        consumer = ConsumerSession(
            "coupon", client(desk.js), handler, ReceivedPositions(), desk.dead_letters, pauses_s=NO_PAUSES
        )

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
        consumer.retry_queue.close()
