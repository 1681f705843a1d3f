"""A listener's dead letters in DEAD: messages that it could not handle, and a service's later ones of the same key.

A message is acknowledged only after its dead letter is stored. Each session reads the dead letters from the stream, so
they outlive the process.
"""

from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from nats.js import JetStreamContext
from nats.js.api import StreamInfo
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from infra.broker.client import BrokerClient
from infra.broker.connection import CONNECT_TIMEOUT_S
from infra.broker.errors import ConnectionLost, ConsumerFailed
from infra.broker.stored import delete_message, stored_message
from infra.broker.streams import KEEPS, check_message_size, compare
from infra.consuming.dead_letter import DEAD, ERRORS, PREFIX, WAITS, DeadLetter, kind_of, stream_config
from infra.consuming.dead_letter_message import (
    LARGEST_MESSAGE,
    MAX_BODY,
    error_text,
    headers_of,
    parsed,
    subject_of,
    traceback_text,
)
from infra.consuming.redrive_notes import RedriveNote, put_note
from infra.consuming.stored_dead_letters import read
from infra.core.messages import Delivery
from infra.settings import Settings
from infra.timestamps import now

logger = structlog.get_logger()

REMEMBERED: Final = 256  # dead letters that are written again if the broker truncated DEAD


class DeadLetters:
    """Stores one listener's dead letters in DEAD, and keeps a list of them in memory, over all sessions.

    Each session calls `open` after it took over the consumers, before it handles deliveries. Before the first `open`
    the list is empty, and nothing can be stored.
    """

    def __init__(self, consumer: str, settings: Settings, clock: Callable[[], datetime] = now) -> None:
        self._consumer = consumer
        self._settings = settings
        self._clock = clock
        self.on_given_up: Callable[[Delivery, Exception | None, int], None] = lambda *_: None
        """Gets each message that the retry queue makes a dead letter, its error, and the number of failed attempts."""
        self._nc: BrokerClient | None = None
        self._js: JetStreamContext | None = None
        self.added = dict.fromkeys(ERRORS, 0)
        """How many dead letters this process has added, by the kind of error."""
        self._by_key: dict[str, dict[int, DeadLetter]] = {}
        """Key → sequence of DEAD → dead letter without body and stack; in the order of the sequences."""
        self._recent: deque[DeadLetter] = deque(maxlen=REMEMBERED)
        self._created = ""
        """When the stream DEAD that `open` read was made."""

    def has(self, key: str) -> bool:
        """Whether this key has dead letters. A service's later messages of the key then have to wait for these."""
        return key in self._by_key

    @property
    def empty(self) -> bool:
        return not self._by_key

    @property
    def depth(self) -> int:
        return sum(map(len, self._by_key.values()))

    @property
    def oldest(self) -> datetime | None:
        """When the oldest dead letter was written (UTC); None if the list is empty, as before the first `open`."""
        return min((one.at for found in self._by_key.values() for one in found.values()), default=None)

    def of(self, key: str) -> list[DeadLetter]:
        """Return the dead letters of this key, without bodies and stacks, in the order of their writing to DEAD."""
        return list(self._by_key.get(key, {}).values())

    @property
    def keys(self) -> list[str]:
        return list(self._by_key)

    async def open(self, nc: BrokerClient) -> None:
        """Make DEAD if it is missing, set its `allow_direct` if unset, and read the listener's dead letters from it.

        Of the last REMEMBERED that this process wrote and has not removed, those that DEAD lacks are written again.
        Raises StreamMisconfigured as `check` does; ConsumerFailed if DEAD refuses one of those; the client's errors.
        """
        js = nc.jetstream(timeout=CONNECT_TIMEOUT_S)
        try:
            found = await self._checked(js)
        except NotFoundError:
            found = await js.add_stream(stream_config(self._settings))
        else:
            if not found.config.allow_direct:
                found.config.allow_direct = True
                await js.update_stream(found.config)
        self._nc, self._js, self._created = nc, js, str(found.created)
        listed: dict[str, dict[int, DeadLetter]] = {}
        async for dead_letter in read(nc, f"{PREFIX}.{self._consumer}.*", whole=False):
            listed.setdefault(dead_letter.key, {})[dead_letter.sequence] = dead_letter
        self._by_key = listed  # at once: what is exported must not fall while it is read
        there = {one.identity: one.sequence for found in listed.values() for one in found.values()}
        self._recent = deque((one._replace(sequence=there.get(one.identity, 0)) for one in self._recent), REMEMBERED)
        lost = [one for one in self._recent if not one.sequence]
        for dead_letter in lost:
            logger.warning(
                "the broker lost a dead letter: it is written again", key=dead_letter.key, fact_id=dead_letter.fact_id
            )
            await self._write(dead_letter)
            self._recent = deque((kept for kept in self._recent if kept is not dead_letter), REMEMBERED)

    async def check(self, js: JetStreamContext) -> None:
        """Compare DEAD with what the session began with.

        Raises StreamMisconfigured if its settings endanger dead letters; ConnectionLost if it was replaced: the next
        session then writes again what is lost; the client's errors.
        """
        if str((await self._checked(js)).created) != self._created:
            raise ConnectionLost(f"{DEAD} was replaced by another stream")

    async def _checked(self, js: JetStreamContext) -> StreamInfo:
        """Return DEAD's info. Raises StreamMisconfigured if its settings endanger dead letters; the client's errors."""
        found = await js.stream_info(DEAD)
        compare(found.config, stream_config(self._settings), KEEPS)
        check_message_size(found.config, LARGEST_MESSAGE)
        return found

    async def add(self, delivery: Delivery, error: Exception | None, attempts: int) -> None:
        """Store the message as a dead letter in DEAD; returns once the broker has it.

        No effect if a dead letter of the key has the message's stream position, or both its id and its body. `attempts`
        counts the failed attempts. `error` may be None only if the key has dead letters: the message then was not
        tried, and waits for them. Raises ConsumerFailed if the broker refuses it; the client's errors.
        """
        ahead = self.of(delivery.key)
        for dead_letter in ahead:
            if dead_letter.delivery.same_as(delivery) and await self._keeps(dead_letter, delivery):
                return  # a repeated delivery
        dead_letter = DeadLetter(
            sequence=0,
            consumer=self._consumer,
            key=delivery.key,
            at=self._clock(),
            attempts=attempts,
            error=error_text(error) if error else f"{WAITS}{ahead[0].sequence}",
            stack=traceback_text(error) if error else "",
            subject=delivery.subject,
            fact_id=delivery.fact_id,
            origin=delivery.position,
            head=delivery.raw_headers,
            body=delivery.body,
        )
        await self._write(dead_letter)
        self.added[kind_of(error)] += 1

    async def _keeps(self, listed: DeadLetter, delivery: Delivery) -> bool:
        """Whether `listed`, of the same id or position, keeps this message: by the position, or else by the body.

        The id alone says nothing: anybody may publish a message with the id of a fact. Raises the client's errors.
        """
        if listed.origin == delivery.position:
            return True
        found = await self.load(listed)
        return found is not None and found.body == delivery.body[:MAX_BODY]

    async def _write(self, dead_letter: DeadLetter) -> None:
        """Store and list the dead letter. Raises ConsumerFailed if the broker refuses it; the client's errors."""
        try:
            ack = await self._stream.publish(
                subject_of(dead_letter), dead_letter.body[:MAX_BODY], stream=DEAD, headers=headers_of(dead_letter)
            )
        except (APIError, NoStreamResponseError) as refused:
            raise ConsumerFailed(
                f"the broker takes no dead letter of {dead_letter.key} into {DEAD}: {refused}; list dead letters with "
                f"`just dlq ls` and redrive or drop some, or raise the limits of {DEAD}"
            ) from refused
        dead_letter = dead_letter._replace(sequence=ack.seq)
        logger.error(
            "dead-lettered",
            **dead_letter.delivery.log_fields,
            sequence=dead_letter.origin.sequence,
            error=dead_letter.error,
            attempts=dead_letter.attempts,
            next=f"just dlq show {ack.seq}",
        )
        self._recent.append(dead_letter)
        self._remember(dead_letter)

    def _remember(self, dead_letter: DeadLetter) -> None:
        self._by_key.setdefault(dead_letter.key, {})[dead_letter.sequence] = dead_letter._replace(body=b"", stack="")

    async def load(self, dead_letter: DeadLetter) -> DeadLetter | None:
        """Read a listed dead letter again from DEAD, with body and stack. Raises the client's errors.

        None if DEAD no longer has it; it is then taken off the list. If no message has its sequence, that is for good.
        If another one has, the broker lost it: the next session writes it again if it is one of the last REMEMBERED.
        """
        message = await self._at(dead_letter.sequence)
        if message is None:
            self._forget(dead_letter)
        elif message.identity != dead_letter.identity:
            self._take_off(dead_letter)
            return None
        return message

    async def _at(self, sequence: int) -> DeadLetter | None:
        assert self._nc is not None, "before any session"
        message = await stored_message(self._nc, DEAD, sequence)
        return None if message is None else parsed(message)

    async def remove(self, dead_letter: DeadLetter) -> None:
        """Delete a dead letter, redriven or dropped, from DEAD and the list. Raises the client's errors.

        It may have been deleted already. Another one that has its sequence now stays.
        """
        found = await self._at(dead_letter.sequence)
        if found is not None and found.identity == dead_letter.identity:
            await delete_message(self._stream, DEAD, dead_letter.sequence)
        self._forget(dead_letter)

    async def note_redrive(self, key: str, failed: DeadLetter | None, error: str, reason: str) -> None:
        """Note in DEAD that `failed`, of this key, was redriven in vain; None: delete the key's note (`put_note`)."""
        assert self._nc is not None, "before any session"
        note = failed and RedriveNote(failed.sequence, 1, self._clock(), reason, error)
        await put_note(self._nc, self._stream, f"{PREFIX}.{self._consumer}.{key}", note)

    def _forget(self, dead_letter: DeadLetter) -> None:
        self._take_off(dead_letter)
        self._recent = deque((kept for kept in self._recent if kept.sequence != dead_letter.sequence), REMEMBERED)

    def _take_off(self, dead_letter: DeadLetter) -> None:
        found = self._by_key.get(dead_letter.key, {})
        found.pop(dead_letter.sequence, None)
        if not found:
            self._by_key.pop(dead_letter.key, None)

    @property
    def _stream(self) -> JetStreamContext:
        assert self._js is not None, "before any session"
        return self._js
