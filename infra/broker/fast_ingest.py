"""JetStream's fast ingest: one acknowledgement for every `FLOW` messages of a batch, and one at its end.

The server reads its instructions from the reply subjects, `<inbox>.<batch>.<flow>.fail.<n>.<operation>.$FI`, and does
not store these. It answers there: when the batch begins; after every `FLOW` messages with the number stored; and at the
end with the total. `fail` makes it store nothing more of a batch once a message is missing or refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

FLOW: Final = 32  # messages
FEWEST: Final = 3  # messages; a batch takes at least two answers, so fewer messages are sent one by one

BEGIN: Final = 0
APPEND: Final = 1
COMMIT: Final = 2  # on the last message


class PublishRefused(Exception):
    """The server did not store every message. The text is the server's answer."""


class _Answer(msgspec.Struct):
    """An answer without a type is about a single message or a whole batch; within a batch: `ack`, `gap` or `err`."""

    type: str = ""
    seq: int = 0
    """With type `ack`: how many messages of the batch are stored. Without a type: the sequence in the stream."""
    count: int = 0
    error: dict[str, Any] | None = None


_answer: Final = msgspec.json.Decoder(_Answer)


@dataclass
class _Batch:
    positions: Sequence[int]
    stored: int = 0


class FastIngest:
    """Makes the reply subjects for one session's messages; the answers to them tell which positions are stored."""

    def __init__(self, inbox: str) -> None:
        """Only this session uses `inbox`. The answers come to the subjects below it."""
        self._inbox = inbox
        self._unique = inbox.rpartition(".")[2]  # batch names have to be unique among all publishers to the stream
        self._open: dict[str, _Batch] = {}

    def replies(self, positions: Sequence[int]) -> list[str]:
        """The reply subjects of messages that are sent together, in this order. Positions must be unique."""
        last = len(positions)
        if last < FEWEST:
            return [f"{self._inbox}.{position}" for position in positions]
        name = f"{self._unique}-{positions[0]}"
        self._open[name] = _Batch(positions)
        begin = f"{self._inbox}.{name}.{FLOW}.fail"
        appended = [f"{begin}.{n}.{APPEND}.$FI" for n in range(2, last)]
        return [f"{begin}.1.{BEGIN}.$FI", *appended, f"{begin}.{last}.{COMMIT}.$FI"]

    def stored(self, subject: bytes, body: bytes, raw_headers: bytes) -> Sequence[int]:
        """The positions that this answer newly reports as stored. Raises PublishRefused."""
        try:
            answer = _answer.decode(body)
        except msgspec.DecodeError:
            raise PublishRefused((body or raw_headers).decode()) from None
        if answer.error is not None or answer.type not in {"", "ack"}:
            raise PublishRefused(body.decode())
        name, batched, _ = subject[len(self._inbox) + 1 :].decode().partition(".")
        if not batched:
            return [int(name)]
        batch = self._open.get(name)
        if batch is None:
            return ()  # after a change of leader a cluster may repeat an answer
        until = answer.seq if answer.type else answer.count
        if not answer.type:
            if until != len(batch.positions):
                raise PublishRefused(f"only {until} of a batch of {len(batch.positions)} were stored: {body.decode()}")
            del self._open[name]
        stored = batch.positions[batch.stored : until]
        batch.stored = max(batch.stored, until)
        return stored
