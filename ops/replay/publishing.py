"""Pipelined publishing: the broker acknowledges each message; at most WINDOW messages wait for that at a time."""

import asyncio
import contextlib
from typing import Final

import msgspec

from infra.broker.client import BrokerClient
from infra.broker.connection import PING_INTERVAL_S
from ops.errors import Unreachable

WINDOW: Final = 512  # messages
ACK_TIMEOUT_S: Final = 5.0
DRAIN_TIMEOUT_S: Final = 1.0


class _Error(msgspec.Struct):
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    duplicate: bool = False
    error: _Error | None = None


_ack: Final = msgspec.json.Decoder(_Ack)


class Publisher:
    """Publishes messages into one stream and counts their acknowledgements. Acknowledged messages are stored.

    After a refusal `send`, `rest` and `finish` raise Unreachable. If acknowledgements stop, `finish` raises Unreachable
    after ACK_TIMEOUT_S seconds, and so does `send` while WINDOW messages wait; nothing else notices that. After either
    the Publisher cannot be used further.
    """

    def __init__(self, nc: BrokerClient, stream: str, ping_interval_s: float = PING_INTERVAL_S) -> None:
        self.acknowledged = 0
        self.duplicates = 0
        """How many of the acknowledged messages were not stored again, because the stream had their ids already."""
        self.until = 0
        """The sequence in the source up to which (inclusive) all sent messages are acknowledged; 0: none yet.

        It is right only if the sequences of the sent messages rise.
        """
        self._nc = nc
        self._ping_interval_s = ping_interval_s
        self._stream = stream
        self._inbox = nc.new_inbox()
        self._waiting: dict[int, int] = {}
        """Number of a message without an acknowledgement, from 1 → its sequence in the source."""
        self._number = 0
        self._error: Unreachable | None = None
        self._sign = asyncio.Event()

    async def begin(self) -> None:
        """Subscribe to the acknowledgements. Call it once, before the first `send`. Raises the client's errors."""
        await self._nc.listen(f"{self._inbox}.*", self._on_ack)

    async def send(self, sequence: int, subject: str, body: bytes, head: str) -> None:
        """Publish a message, without waiting for its acknowledgement; wait first while WINDOW messages wait for theirs.

        `sequence`: the message's in the source. `head`: its headers as NATS sends them. Raises Unreachable, also about
        an earlier message; the client's errors.
        """
        while len(self._waiting) >= WINDOW:
            await self._wait()
        self._raise_refusal()
        self._number += 1
        self._waiting[self._number] = sequence
        await self._nc.send(subject, body, f"{self._inbox}.{self._number}", head)

    async def finish(self) -> None:
        """Wait until every message is acknowledged.

        Raises Unreachable if a message was refused, or if no answer comes for ACK_TIMEOUT_S seconds.
        """
        while self._waiting:
            await self._wait()

    async def drain(self) -> None:
        """Wait at most DRAIN_TIMEOUT_S seconds for the missing acknowledgements: those that come are counted.

        It raises no Unreachable.
        """
        with contextlib.suppress(TimeoutError, Unreachable):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self.finish()

    async def rest(self, seconds: float) -> None:
        """Sleep this many seconds between two messages.

        It checks the connection at the beginning of each ping interval. Raises Unreachable if the connection is lost
        then, or if a message was refused.
        """
        while seconds > 0 and self._error is None:
            if not self._nc.is_connected:
                raise Unreachable("the connection to the target was lost")
            await asyncio.sleep(min(seconds, self._ping_interval_s))
            seconds -= self._ping_interval_s
        self._raise_refusal()

    async def _wait(self) -> None:
        self._raise_refusal()
        self._sign.clear()
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                await self._sign.wait()
        except TimeoutError:
            self._error = self._error or Unreachable(f"the target has acknowledged nothing for {ACK_TIMEOUT_S:.0f} s")
        self._raise_refusal()

    def _raise_refusal(self) -> None:
        if self._error is not None:
            raise self._error

    def _on_ack(self, subject: bytes, _: bytes, body: bytes, head: bytes) -> None:
        self._sign.set()
        try:
            ack = _ack.decode(body)
        except msgspec.DecodeError:
            ack = _Ack(error=_Error(head.decode().strip() or "its answer is not one of JetStream"))
        if ack.error is not None or ack.stream != self._stream:
            why = (
                ack.error.description
                if ack.error is not None
                else f"its stream {ack.stream} took the message, not {self._stream}"
            )
            self._error = self._error or Unreachable(f"the target refused a message: {why}")
            return
        sequence = self._waiting.pop(int(subject.rpartition(b".")[2]))
        self.acknowledged += 1
        self.duplicates += ack.duplicate
        if not self._waiting or next(iter(self._waiting.values())) > sequence:
            self.until = max(self.until, sequence)
