"""JetStream's fast ingest: one acknowledgement for up to `FLOW` messages of a batch, and one at its end.

The server reads its instructions from the reply subjects, `<inbox>.<batch>.<flow>.fail.<n>.<operation>.$FI`, and does
not store these. It answers there: when the batch begins; after `FLOW` messages or fewer with the number stored; and at
the end with the total. `fail` makes it store nothing more of a batch once a message is missing or refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from infra.broker.troubles import next_step

FLOW: Final = 32  # messages
FEWEST: Final = 3  # messages; a batch takes at least two answers, so fewer messages are sent one by one

BEGIN: Final = 0
APPEND: Final = 1
COMMIT: Final = 2  # on the last message

REPEATS: Final = ". The next session reads which ones the stream has"


class PublishRefused(Exception):
    """The server did not store every message, or its answer cannot be read. The text has the server's words."""


class TakenForRepeat(Exception):
    """The server stored nothing, because the message at `sequence` has the same id as the fact at `position`.

    It may be this fact, sent by an earlier session; or somebody else's message under its id.
    """

    def __init__(self, position: int, sequence: int) -> None:
        super().__init__(f"the id of position {position} is that of the message at sequence {sequence}")
        self.position = position
        self.sequence = sequence


class _Answer(msgspec.Struct):
    """The server's answer to messages. `type` is empty in the answer to a single message or to a whole batch.

    Within a batch it is `ack`, `gap` (a message is missing) or `err`. `count`: how many messages of a whole batch were
    stored.
    """

    type: str = ""
    seq: int = 0
    """With type `ack`: how many messages of the batch are stored so far. Without a type: the sequence in the stream."""
    count: int = 0
    duplicate: bool = False
    """Only in the answer to a single message: `seq` is that of an earlier message with its id."""
    error: dict[str, Any] | None = None


_answer: Final = msgspec.json.Decoder(_Answer)


@dataclass
class _Batch:
    positions: Sequence[int]
    stored: int = 0


class FastIngest:
    """Makes the reply subjects for one session's messages, and reads from the answers which positions are stored.

    It neither sends nor receives: its owner does.
    """

    def __init__(self, inbox: str) -> None:
        """Only this session uses `inbox`. The answers come to the subjects below it."""
        self._inbox = inbox
        self._unique = inbox.rpartition(".")[2]  # batch names have to be unique among all publishers to the stream
        self._open: dict[str, _Batch] = {}
        self.last_sequence = 0
        """The last sequence that the stream is known to have had; each batch is stored after it."""

    def replies(self, positions: Sequence[int]) -> list[str]:
        """Return a reply subject for the message of each position. The caller sends these together in this order.

        From `FEWEST` positions on they become a batch, which is remembered until it is stored. A session must not pass
        a position twice.
        """
        last = len(positions)
        if last < FEWEST:
            return [f"{self._inbox}.{position}" for position in positions]
        name = f"{self._unique}-{positions[0]}"
        self._open[name] = _Batch(positions)
        begin = f"{self._inbox}.{name}.{FLOW}.fail"
        appended = [f"{begin}.{n}.{APPEND}.$FI" for n in range(2, last)]
        return [f"{begin}.1.{BEGIN}.$FI", *appended, f"{begin}.{last}.{COMMIT}.$FI"]

    def stored(self, subject: bytes, body: bytes, raw_headers: bytes) -> Sequence[int]:
        """Take in an answer; return the positions that it newly reports as stored.

        None are new if it repeats an answer about a batch, or says only that a batch has begun. Raises PublishRefused
        if a message was refused or is missing, or the answer cannot be read; also if the stream grew by less than a
        batch: only so can a repeat within a batch be seen. Raises TakenForRepeat if the server took a single message
        for a repeat.
        """
        try:
            answer = _answer.decode(body)
        except msgspec.DecodeError:
            raise PublishRefused((body or raw_headers).decode(errors="backslashreplace")) from None
        if answer.error is not None or answer.type not in {"", "ack"}:
            raise PublishRefused(_told(answer.error) if answer.error else body.decode())
        name, batched, _ = subject[len(self._inbox) + 1 :].decode().partition(".")
        if not batched:
            if answer.duplicate:
                raise TakenForRepeat(int(name), answer.seq)
            self.last_sequence = max(self.last_sequence, answer.seq)
            return [int(name)]
        batch = self._open.get(name)
        if batch is None:
            return ()  # after a change of leader a cluster may repeat an answer
        until = answer.seq if answer.type else answer.count
        if not answer.type:
            if until != len(batch.positions):
                raise PublishRefused(f"only {until} of a batch of {len(batch.positions)} were stored: {body.decode()}")
            if answer.seq - self.last_sequence < until:
                raise PublishRefused(f"it took facts of a batch for repeats: {body.decode()}{REPEATS}")
            self.last_sequence = answer.seq
            del self._open[name]
        stored = batch.positions[batch.stored : until]
        batch.stored = max(batch.stored, until)
        return stored


def _told(error: dict[str, Any]) -> str:
    code = error.get("err_code")
    return f"{error.get('description')} (JetStream's error {code}){next_step(code)}"
