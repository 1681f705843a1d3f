"""Reads the stream DEAD, in batches if a copy has all that is asked for, or else one by one."""

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Final, TypeVar

from nats.js.errors import NotFoundError

from infra.broker.client import BrokerClient
from infra.broker.connection import CONNECT_TIMEOUT_S
from infra.broker.stored import StoredMessage, direct, last_message, next_message
from infra.consuming.dead_letter import DEAD, DeadLetter
from infra.consuming.dead_letter_message import parsed
from infra.consuming.redrive_notes import ALL_NOTES, RedriveNote, note_in

BATCH: Final = 1_000  # messages that one direct get asks for, and
BATCH_BYTES: Final = 8 << 20  # about how many bytes of them

T = TypeVar("T")


def read(nc: BrokerClient, subject: str, *, whole: bool = True) -> AsyncGenerator[DeadLetter, None]:
    """Yield the dead letters under this subject of DEAD, by sequence; without `whole`, with empty bodies and stacks.

    The subject may have wildcards. Without a stream DEAD, none. Raises the client's errors. The leader says how many
    messages there are and which is the last; a copy that has them all gives them in batches. Otherwise the leader gives
    them one by one.
    """
    return _read(nc, subject, partial(_letter, whole=whole))


def read_notes(nc: BrokerClient) -> AsyncGenerator[RedriveNote, None]:
    """Yield the notes of redrives in DEAD, of all listeners, by sequence; none if DEAD is missing. Raises as `read`."""
    return _read(nc, ALL_NOTES, note_in)


def _letter(message: StoredMessage, *, whole: bool) -> DeadLetter | None:
    return None if note_in(message) else parsed(message, whole=whole)


async def _read(nc: BrokerClient, subject: str, parse: Callable[[StoredMessage], T | None]) -> AsyncGenerator[T, None]:
    """Yield what `parse` makes of each message under this subject, by sequence; skip those of which it makes None."""
    try:
        last = await last_message(nc, DEAD, subject)
    except NotFoundError:
        return
    if last is None:
        return
    counts = (await nc.jetstream(timeout=CONNECT_TIMEOUT_S).stream_info(DEAD, subjects_filter=subject)).state.subjects
    in_batches = await _in_batches(nc, subject, last.sequence, sum((counts or {}).values()), parse)
    if in_batches is not None:
        for found in in_batches:
            if found is not None:
                yield found
        return
    sequence = 0
    while sequence < last.sequence and (message := await next_message(nc, DEAD, sequence + 1, subject)):
        sequence = message.sequence
        if (found := parse(message)) is not None:
            yield found


async def _in_batches(
    nc: BrokerClient, subject: str, last: int, count: int, parse: Callable[[StoredMessage], T | None]
) -> list[T | None] | None:
    """Return what `parse` makes of each message up to the sequence `last`, included; entries may be None.

    None in place of the list if a mirror answers, nobody answers in time, or the messages end before `last` or are
    fewer than `count`. Raises the client's errors.
    """
    found: list[T | None] = []
    reached = 0
    while reached < last:
        wanted = {"seq": reached + 1, "next_by_subj": subject, "batch": BATCH, "max_bytes": BATCH_BYTES}
        try:
            answer = await direct(nc, DEAD, wanted)
        except TimeoutError:
            return None
        messages = answer.messages
        if not messages or answer.answered_by != {DEAD}:  # a mirror still has what was deleted
            return None
        found += [parse(message) for message in messages if message.sequence <= last]
        reached = messages[-1].sequence
    return found if len(found) >= count else None
