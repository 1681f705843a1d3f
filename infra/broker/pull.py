"""Sends a consumer's pull requests, one after another, so that the server seldom waits for the next one.

A request asks for a batch; the next one is sent when less than half of that batch is still to come.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from nats.aio.subscription import Subscription

from infra.aio import Alarm
from infra.broker.client import BrokerClient, MessageCallback, header, status
from infra.broker.errors import ConsumerFailed, ConsumerGone

PULL_EXPIRES_S: Final = 5.0
"""After this long the server ends a request that it could not fill."""

SILENCE_S: Final = 3 * PULL_EXPIRES_S
"""If the server sends nothing for this long, neither a message nor the end of a request, the session has failed."""


class Pull:
    """Sends one session's pull requests to a consumer of a stream, and hands each message that comes to a callback.

    The owner calls `begin` once; then `request` and `sign_of_life` in turns, clearing `wake` in between.
    """

    def __init__(
        self,
        nc: BrokerClient,
        stream: str,
        consumer: str,
        batch: int,
        *,
        deliver: MessageCallback,
        failed: Callable[[ConsumerFailed], None],
        expires_s: float = PULL_EXPIRES_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        """`batch` is the number of messages that a request asks for. `deliver` gets each message.

        `failed` is called if the server ends the pull, and should end the session. A request expires after
        `expires_s` seconds. `silence_s`: see `sign_of_life`.
        """
        self._nc = nc
        self._request = b'{"batch":%d,"expires":%d}' % (batch, int(expires_s * 1e9))
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self.inbox = nc.new_inbox()
        self._batch = batch
        self._deliver = deliver
        self._failed = failed
        self._silence_s = silence_s
        self._to_come = 0
        self._loop = asyncio.get_running_loop()
        self._last_sign = self._loop.time()
        self._subscription: Subscription | None = None
        self.wake = asyncio.Event()
        """Set when it is time for another request. The owner clears it, and may set it, too, to end `sign_of_life`."""
        self._silent = Alarm(self.wake)
        self.stopped = False
        """Set by the owner: from then on messages and statuses are ignored, and `request` sends nothing."""

    async def begin(self) -> None:
        """Subscribe to the inbox, where the messages of later requests arrive. Raises the client's errors."""
        self._subscription = await self._nc.listen(self.inbox, self._on_message)

    async def end(self) -> None:
        """Unsubscribe from the inbox; no effect before `begin`. Raises the client's errors."""
        if self._subscription is not None:
            await self._nc.unlisten(self._subscription)

    async def request(self) -> None:
        """Ask for the next batch if less than half of one is still to come; do not wait for its messages.

        Does nothing once `stopped`. Raises the client's errors.
        """
        if not self.stopped and self._to_come < self._batch // 2:
            self._to_come += self._batch
            await self._nc.publish(self._next, self._request, self.inbox)

    async def sign_of_life(self) -> None:
        """Wait until `wake` is set, at the latest when nothing has come to the inbox for `silence_s` seconds.

        Raises ConsumerFailed in the latter case, unless `stopped`.
        """
        self._silent.at(self._last_sign + self._silence_s)
        await self.wake.wait()
        if not self.stopped and self._loop.time() >= self._last_sign + self._silence_s:
            raise ConsumerFailed(f"the broker has been silent for {self._silence_s:g} s")

    def _on_message(self, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        self._last_sign = self._loop.time()
        if self.stopped:
            return
        if not reply:
            self._on_status(head)
            return
        self._to_come -= 1
        self._deliver(subject, reply, body, head)
        if self._to_come < self._batch // 2:
            self.wake.set()

    def _on_status(self, head: bytes) -> None:
        code, description = status(head)
        if code == "100":  # heartbeat
            return
        if code in ("404", "408"):  # 404: no messages; 408: this request is over
            self._to_come -= int(header(head, b"Nats-Pending-Messages") or self._batch)
            self.wake.set()
            return
        gone = code == "503" or description == "Consumer Deleted"
        error = ConsumerGone if gone else ConsumerFailed
        self._failed(error(f"the broker ended the pull: {code} {description}".rstrip()))


def numbers(ack_subject: bytes) -> tuple[int, int, int]:
    """Read an ack subject: sequence in the stream, delivery number, and when the message was stored (ns since 1970).

    The delivery number counts all deliveries of the consumer, from 1 since its last reset. Raises ValueError if there
    are no three numbers in their places; the other tokens are not looked at.
    """
    tokens = ack_subject.split(b".")
    # $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<delivery>.<time>.<pending>; or with domain and account
    sequence, number, stored_ns = map(int, tokens[5:8] if len(tokens) == 9 else tokens[7:10])
    return sequence, number, stored_ns
