"""The note of a dead letter's redrives in vain: a message of DEAD beside the dead letter, so it outlives processes.

The note's subject is the dead letter's with `.redriven` behind it. A new note of a listener's key replaces the one
before. No service reads it for its work.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from infra.broker.client import BrokerClient
from infra.broker.stored import StoredMessage, delete_message, last_message
from infra.broker.troubles import describe
from infra.consuming.dead_letter import DEAD, PREFIX

logger = structlog.get_logger()

SUFFIX: Final = ".redriven"
ALL_NOTES: Final = f"{PREFIX}.*.*{SUFFIX}"


class RedriveNote(msgspec.Struct, frozen=True):
    """The dead letter at this sequence of DEAD was redriven in vain so many `times`.

    `at` (UTC), `reason` (the operator's) and `error` are those of the last time. `reason` is empty if none was given.
    """

    letter: int
    times: int
    at: datetime
    reason: str
    error: str


_decode: Final = msgspec.json.Decoder(RedriveNote).decode


def note_in(message: StoredMessage) -> RedriveNote | None:
    """Return the note that a message of DEAD holds; None if it holds a dead letter or is unreadable. Never raises."""
    if not message.subject.endswith(SUFFIX):
        return None
    with suppress(msgspec.DecodeError, RecursionError):
        return _decode(message.body)
    return None


async def put_note(nc: BrokerClient, js: JetStreamContext, subject: str, note: RedriveNote | None) -> None:
    """Keep this note in place of the note before; None: keep none. `subject` is that of the dead letters.

    If the note before is of the same dead letter, its `times` are added. The client's errors are logged as a warning,
    not raised: the redrive itself is done.
    """
    try:
        await _put(nc, js, subject + SUFFIX, note)
    except (NatsError, OSError) as lost:
        logger.warning("a redrive could not be noted", subject=subject, error=describe(lost))


async def _put(nc: BrokerClient, js: JetStreamContext, subject: str, note: RedriveNote | None) -> None:
    before = await last_message(nc, DEAD, subject)
    if before is not None and before.subject != subject:  # a key may be a wildcard
        return
    if note is not None:
        earlier = None if before is None else note_in(before)
        if earlier is not None and earlier.letter == note.letter:
            note = msgspec.structs.replace(note, times=earlier.times + note.times)
        await js.publish(subject, msgspec.json.encode(note), stream=DEAD)
    if before is not None:
        await delete_message(js, DEAD, before.sequence)


def by_letter(notes: Sequence[RedriveNote]) -> dict[int, RedriveNote]:
    """Return the notes by the sequence in DEAD of the dead letter that each is of."""
    return {note.letter: note for note in notes}
