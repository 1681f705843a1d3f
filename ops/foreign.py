"""Foreign messages of EVENTS that a person has acknowledged, in the file `foreign.json` below DATA_DIR.

No single message can be deleted from EVENTS, so a foreign message stays in it. The audit reports it until a person
acknowledges it: says that its origin is known. An acknowledged message is passed over by the audit, by a rebuild and by
its service's relay, also if its headers look like those of a service.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from contracts.fact import DECODE_ERRORS
from contracts.origin import ForeignMessage, Origin, origin
from infra import files
from infra.broker import acknowledged
from infra.broker.acknowledged import Acknowledged
from infra.settings import Settings, load
from infra.timestamps import now
from ops.errors import Unusable
from ops.reading import Read

ALL: Final = "all"
"""Instead of sequences: every message that `contracts.origin.origin` refuses, by its headers or its body."""


class NoForeignFile(Unusable):
    """The file of the acknowledged messages cannot be used. The text of the error names the file, and says why."""


def path(env: Mapping[str, str]) -> Path:
    """Return the path of the file of the acknowledged messages; it may be missing. Raises SettingsError."""
    return load(Settings, "nats", 4_222, env).data_dir / acknowledged.NAME


def digest(message: Read) -> str:
    """Return the SHA-256 (hex) over everything that the stream has of a message, but for its sequence."""
    return acknowledged.digest(message.subject, message.head, message.body, message.stored_ns)


class Judged(NamedTuple):
    """What a message is. `origin`: where its fact is recorded; None: the message counts as foreign.

    `why`: what the message lacks to be a service's; empty: it looks like one, as an acknowledged message may, too.
    `known`: a person has acknowledged the message.
    """

    origin: Origin | None
    why: str
    known: bool


class KnownForeign:
    """The acknowledged messages. `wanted`: the sequences, as texts, that `judge` is to acknowledge now; or ALL.

    Counts the foreign messages that `judge` was given: `known` are acknowledged, `unknown` are not.
    """

    def __init__(
        self,
        found: Collection[Acknowledged] = (),
        wanted: Collection[str] = (),
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._by_sequence = {one.sequence: one for one in found}
        self._all = ALL in wanted
        self._wanted = {int(one) for one in wanted if one != ALL}
        self._clock = clock
        self.known = 0
        self.unknown = 0

    @classmethod
    def read(cls, file: Path, wanted: Collection[str] = ()) -> "KnownForeign":
        """Read the acknowledged messages from the file; a missing one has none. `wanted`: as in the class.

        Raises NoForeignFile if the file is there and cannot be read.
        """
        try:
            return cls(acknowledged.read(file), wanted)
        except (OSError, *DECODE_ERRORS) as error:
            raise NoForeignFile(f"{file} cannot be read: {error}. Put a copy back, or delete it") from error

    def judge(self, message: Read) -> Judged:
        """Return what the message is, and count it if it is foreign; first acknowledge it if its sequence is wanted.

        With ALL, acknowledge it if it is foreign. The file is not changed; `write` does that.
        """
        where, why = None, ""
        try:
            where = origin(message.subject, message.fact_id, message.head, message.body)
        except ForeignMessage as foreign:
            why = str(foreign)
        sequence = message.sequence
        if where is not None and sequence not in self._by_sequence and sequence not in self._wanted:
            return Judged(where, "", known=False)
        if sequence in self._wanted or (self._all and where is None):
            self._wanted.discard(sequence)
            self._by_sequence[sequence] = Acknowledged(sequence, message.subject, digest(message), why, self._clock())
        its = self._by_sequence.get(sequence)
        if its is not None and its.digest == digest(message):
            self.known += 1
            return Judged(None, why, known=True)
        if where is None:
            self.unknown += 1
        return Judged(where, why, known=False)

    @property
    def missing(self) -> list[int]:
        """The wanted sequences, in rising order, of which `judge` was given no message."""
        return sorted(self._wanted)

    def write(self, file: Path) -> None:
        """Write all acknowledged messages, durably, in the order of their sequences. Raises OSError."""
        files.make_folder(file.parent)
        ordered = [self._by_sequence[sequence] for sequence in sorted(self._by_sequence)]
        files.write(file, msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")
