"""Publishing by the thousand: pipelined, each message acknowledged, never more than a window of them waiting."""

import asyncio
from typing import Final

import msgspec

from infra.broker.client import BrokerClient
from infra.broker.connection import PING_INTERVAL_S
from ops.errors import Unreachable

WINDOW: Final = 512  # messages
ACK_TIMEOUT_S: Final = 5.0


class _Error(msgspec.Struct):
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    duplicate: bool = False
    error: _Error | None = None


_ack: Final = msgspec.json.Decoder(_Ack)


class Publisher:
    """Into one stream. A refusal or a silence ends it; what is counted until then is in the stream for certain."""

    def __init__(self, nc: BrokerClient, stream: str) -> None:
        self.acknowledged = 0
        self.duplicates = 0
        """Of the acknowledged ones, those the stream had already."""
        self.until = 0
        """The sequence, where it was read, up to which all are acknowledged."""
        self._nc = nc
        self._stream = stream
        self._inbox = nc.new_inbox()
        self._waiting: dict[int, int] = {}
        """Sequences by number, in their order."""
        self._number = 0
        self._error: Unreachable | None = None
        self._sign = asyncio.Event()

    async def begin(self) -> None:
        await self._nc.listen(f"{self._inbox}.*", self._on_ack)

    async def send(self, sequence: int, subject: str, body: bytes, head: str) -> None:
        """Raises Unreachable, the client's errors."""
        while len(self._waiting) >= WINDOW:
            await self._wait()
        self._number += 1
        self._waiting[self._number] = sequence
        await self._nc.send(subject, body, f"{self._inbox}.{self._number}", head)
        if self._error is not None:
            raise self._error

    async def finish(self) -> None:
        """Returns when everything is acknowledged. Raises Unreachable."""
        while self._waiting:
            await self._wait()

    async def rest(self, seconds: float) -> None:
        """Between two messages. Raises Unreachable as soon as the connection is lost, not only at the next message."""
        while seconds > 0 and self._error is None:
            if not self._nc.is_connected:
                raise Unreachable("the connection to the target was lost")
            await asyncio.sleep(min(seconds, PING_INTERVAL_S))
            seconds -= PING_INTERVAL_S
        if self._error is not None:
            raise self._error

    async def _wait(self) -> None:
        self._sign.clear()
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                await self._sign.wait()
        except TimeoutError:
            self._error = self._error or Unreachable(f"the target has acknowledged nothing for {ACK_TIMEOUT_S:.0f} s")
        if self._error is not None:
            raise self._error

    def _on_ack(self, subject: bytes, _: bytes, body: bytes, head: bytes) -> None:
        self._sign.set()
        try:
            ack = _ack.decode(body)
        except msgspec.DecodeError:
            ack = _Ack(error=_Error(head.decode().strip() or "it does not answer as JetStream does"))
        if ack.error is not None or ack.stream != self._stream:
            why = ack.error.description if ack.error is not None else f"its stream {ack.stream} took the message"
            self._error = self._error or Unreachable(f"the target refused a message: {why}")
            return
        sequence = self._waiting.pop(int(subject.rpartition(b".")[2]))
        self.acknowledged += 1
        self.duplicates += ack.duplicate
        if not self._waiting or next(iter(self._waiting.values())) > sequence:
            self.until = max(self.until, sequence)
