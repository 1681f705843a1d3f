"""Foreign messages of EVENTS that a person has acknowledged, in the file `foreign.json` of a service's DATA_DIR.

Nothing can be deleted from EVENTS, so a foreign message stays in it. Audits, rebuilds, and relays that look where to
resume pass an acknowledged one over, even if its headers look like those of a service. The audit writes the file.
"""

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from contracts.fact import DECODE_ERRORS

logger = structlog.get_logger()

NAME: Final = "foreign.json"


class Acknowledged(Struct, frozen=True):
    """A message of EVENTS that a person has acknowledged as foreign, with its `digest`, and when they did so (UTC).

    `why`: what the message lacks of a service's, in words; empty if it lacks nothing.
    """

    sequence: int
    subject: str
    digest: str
    why: str
    acknowledged_at: datetime


def digest(subject: str, head: bytes, body: bytes, stored_ns: int) -> str:
    """Return the SHA-256 (hex) over everything that the stream has of a message, but for its sequence.

    `head`: its raw headers. `stored_ns`: when the broker stored it (ns since 1970, UTC).
    """
    parts = (subject.encode(errors="surrogateescape"), head, body, str(stored_ns).encode())
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


def read(file: Path) -> list[Acknowledged]:
    """Return the messages in the file; none if it is missing. Raises another OSError, or one of DECODE_ERRORS."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Acknowledged])
    except FileNotFoundError:
        return []


def digests(folder: Path) -> dict[int, str]:
    """Return the digests of the acknowledged messages by sequence, from the file in this folder.

    Empty if there is no file. Also empty, with a warning, if it cannot be read: a service then stops at a forged fact,
    which is safe.
    """
    found: Iterable[Acknowledged] = ()
    try:
        found = read(folder / NAME)
    except (OSError, *DECODE_ERRORS) as error:
        logger.warning(
            "the acknowledged foreign messages cannot be read: none counts. Put a copy of the file back, or delete it",
            file=str(folder / NAME),
            reason=str(error),
        )
    return {one.sequence: one.digest for one in found}
