"""Batches by JetStream's fast ingest: one acknowledgement for every so many messages, and one at the end of a batch.

What the server has to know stands in the reply subjects, `<inbox>.<batch>.<flow>.fail.<n>.<operation>.$FI`, and is not
stored. There it answers: when a batch begins, after every `FLOW` messages how many are stored, and at the end how many
there were. By `fail` it takes nothing more of a batch once a message is missing or refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

FLOW: Final = 32  # messages
FEWEST: Final = 3  # messages; a batch is answered at least twice, so fewer are sent one by one

BEGIN: Final = 0
APPEND: Final = 1
COMMIT: Final = 2  # this message is the last one


class PublishRefused(Exception):
    """The server did not take all that was sent; the message has its words."""


class _Answer(msgspec.Struct):
    """Without a type: of one message, or of a whole batch; on the way to its end: `ack`, `gap` or `err`."""

    type: str = ""
    seq: int = 0
    """Of type `ack`: how many messages of the batch are stored. Without a type: the place in the stream."""
    count: int = 0
    error: dict[str, Any] | None = None


_answer: Final = msgspec.json.Decoder(_Answer)


@dataclass
class _Batch:
    positions: Sequence[int]
    stored: int = 0


class FastIngest:
    """Those of one session, each known by the name it has in the reply subjects."""

    def __init__(self, inbox: str) -> None:
        """`inbox` is nobody else's; the answers come to the subjects below it."""
        self._inbox = inbox
        self._unique = inbox.rpartition(".")[2]  # a batch's name is unique among all who send to the stream
        self._open: dict[str, _Batch] = {}

    def replies(self, positions: Sequence[int]) -> list[str]:
        """The reply subjects of messages that are sent together, in this order; no position comes twice."""
        last = len(positions)
        if last < FEWEST:
            return [f"{self._inbox}.{position}" for position in positions]
        name = f"{self._unique}-{positions[0]}"
        self._open[name] = _Batch(positions)
        begin = f"{self._inbox}.{name}.{FLOW}.fail"
        appended = [f"{begin}.{n}.{APPEND}.$FI" for n in range(2, last)]
        return [f"{begin}.1.{BEGIN}.$FI", *appended, f"{begin}.{last}.{COMMIT}.$FI"]

    def stored(self, subject: bytes, body: bytes, head: bytes) -> Sequence[int]:
        """The positions that are in the stream by this answer, and were not yet by the ones before. Raises Refused."""
        try:
            answer = _answer.decode(body)
        except msgspec.DecodeError:
            raise PublishRefused((body or head).decode()) from None
        if answer.error is not None or answer.type not in {"", "ack"}:
            raise PublishRefused(body.decode())
        name, batched, _ = subject[len(self._inbox) + 1 :].decode().partition(".")
        if not batched:
            return [int(name)]
        batch = self._open.get(name)
        if batch is None:
            return ()  # a cluster whose leader has changed may say it again
        until = answer.seq if answer.type else answer.count
        if not answer.type:
            if until != len(batch.positions):
                raise PublishRefused(f"{until} of a batch of {len(batch.positions)} were stored: {body.decode()}")
            del self._open[name]
        stored = batch.positions[batch.stored : until]
        batch.stored = max(batch.stored, until)
        return stored
