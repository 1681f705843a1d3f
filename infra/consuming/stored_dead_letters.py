"""Reads the stream DEAD: the dead letters under a subject, in batches if a copy has them all, or else one by one."""

from collections.abc import AsyncGenerator
from typing import Final

from nats.js.errors import NotFoundError

from infra.broker.client import BrokerClient
from infra.broker.connection import CONNECT_TIMEOUT_S
from infra.broker.stored import direct, last_message, next_message
from infra.consuming.dead_letter import DEAD, DeadLetter
from infra.consuming.dead_letter_message import parsed

BATCH: Final = 1_000  # messages that one direct get asks for, and
BATCH_BYTES: Final = 8 << 20  # about how many bytes of them


async def read(nc: BrokerClient, subject: str, *, whole: bool = True) -> AsyncGenerator[DeadLetter, None]:
    """Yield the dead letters under this subject of DEAD, by sequence; without `whole`, with empty bodies and stacks.

    The subject may have wildcards. Without a stream DEAD, none. Raises the client's errors. The leader says how many
    there are and which is the last; a copy that has them all gives them in batches. Otherwise the leader gives them one
    by one.
    """
    try:
        last = await last_message(nc, DEAD, subject)
    except NotFoundError:
        return
    if last is None:
        return
    counts = (await nc.jetstream(timeout=CONNECT_TIMEOUT_S).stream_info(DEAD, subjects_filter=subject)).state.subjects
    in_batches = await _in_batches(nc, subject, last.sequence, sum((counts or {}).values()), whole=whole)
    if in_batches is not None:
        for dead_letter in in_batches:
            yield dead_letter
        return
    sequence = 0
    while sequence < last.sequence and (message := await next_message(nc, DEAD, sequence + 1, subject)):
        sequence = message.sequence
        yield parsed(message, whole=whole)


async def _in_batches(nc: BrokerClient, subject: str, last: int, count: int, *, whole: bool) -> list[DeadLetter] | None:
    """Read the dead letters up to the sequence `last`; None if a mirror answers, or fewer than `count` come in time."""
    found: list[DeadLetter] = []
    while not found or found[-1].sequence < last:
        first = found[-1].sequence + 1 if found else 1
        wanted = {"seq": first, "next_by_subj": subject, "batch": BATCH, "max_bytes": BATCH_BYTES}
        try:
            answer = await direct(nc, DEAD, wanted)
        except TimeoutError:
            return None
        messages = answer.messages
        if not messages or answer.answered_by != {DEAD}:  # a mirror still has what was deleted
            return None
        found += [parsed(message, whole=whole) for message in messages if message.sequence <= last]
        if messages[-1].sequence > last:
            break
    return found if len(found) >= count else None
