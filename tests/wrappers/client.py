"""A broker client whose subclasses see, or change, each delivery and each acknowledgement on its way."""

from functools import partial
from typing import Any

from nats.aio.subscription import Subscription

from infra.broker.client import BrokerClient, MessageCallback

ACK = b"+ACK"
DELIVERY = b"$JS.ACK."


class TappedClient(BrokerClient):
    async def listen(self, subject: str, handler: MessageCallback) -> Subscription:
        return await super().listen(subject, partial(self.arrived, handler))

    async def publish(self, subject: str, payload: bytes = b"", *others: Any, **more: Any) -> None:
        if payload == ACK:
            await self.acknowledge(subject)
        else:
            await super().publish(subject, payload, *others, **more)

    def arrived(self, handler: MessageCallback, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        """A message has arrived for this handler."""
        if reply.startswith(DELIVERY):
            self.delivered(handler, subject, reply, body, head)
        else:
            handler(subject, reply, body, head)

    def delivered(self, handler: MessageCallback, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        """The message is a delivery; `reply` is its ack subject."""
        handler(subject, reply, body, head)

    async def acknowledge(self, ack_subject: str) -> None:
        await super().publish(ack_subject, ACK)


class RenumberingClient(TappedClient):
    """Hands deliveries over under other numbers, and acknowledges them under their own."""

    def __init__(self) -> None:
        super().__init__()
        self._own: dict[str, str] = {}

    def renumbered(self, reply: bytes, number: int, acknowledges: bytes) -> bytes:
        """The ack subject with this number; its acknowledgement is that of `acknowledges`."""
        tokens = reply.split(b".")
        tokens[6 if len(tokens) == 9 else 8] = b"%d" % number
        changed = b".".join(tokens)
        self._own[changed.decode()] = acknowledges.decode()
        return changed

    async def acknowledge(self, ack_subject: str) -> None:
        await super().acknowledge(self._own.get(ack_subject, ack_subject))


def consumer_of(ack_subject: bytes | str) -> str:
    """The name of the consumer whose delivery has this ack subject."""
    tokens = (ack_subject if isinstance(ack_subject, str) else ack_subject.decode()).split(".")
    return tokens[3 if len(tokens) == 9 else 5]


def listener_of(ack_subject: bytes | str) -> str:
    """The name of the service or read model whose consumer has this ack subject."""
    return consumer_of(ack_subject).partition("-hears-")[0]
