"""The other side of the modelled server: the messages that clients send it, and its faults."""

from datetime import timedelta
from typing import Final

import msgspec
from nats.js.api import ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError

from infra.broker.client import VERSION_LINE
from infra.broker.stored import StoredMessage
from infra.broker.streams import EVENTS
from infra.consuming.dead_letter import DEAD
from tests.sim.dead import Dead
from tests.sim.jetstream import ACK, EPOCH, Consumer, Peer, Stream
from tests.sim.reading import NO_STREAM, by_api, directly

NEXT: Final = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}."
DIRECT_GET: Final = f"$JS.API.DIRECT.GET.{EVENTS}"
DIRECT_GET_DEAD: Final = f"$JS.API.DIRECT.GET.{DEAD}"
NOBODY: Final = f"{VERSION_LINE} 503\r\n\r\n".encode()


class _Pull(msgspec.Struct):
    batch: int
    expires: int
    """ns"""


_pull: Final = msgspec.json.Decoder(_Pull)


class Server:
    """One nats-server. `up`: whether it answers. Its data, or a part of them, outlive its crashes."""

    def __init__(self) -> None:
        self.up = True
        self.stream: Stream | None = None
        self.dead = Dead()
        self.peers: list[Peer] = []
        self._batches: dict[tuple[Peer, str], int] = {}
        self._subscribed: dict[str, list[Peer]] = {}
        """By subject: the subscribers. Subscriptions to inboxes need no entry."""
        self._made = 0

    def subscribe(self, peer: Peer, subject: str) -> None:
        self._subscribed.setdefault(subject, []).append(peer)

    # What clients send ------------------------------------------------------------------------------------------------

    def take(self, peer: Peer, subject: str, body: bytes, reply: str, head: bytes) -> None:
        """A message that a client published."""
        if subject.startswith(ACK):
            consumer, _, sequence, delivery, *_ = subject.removeprefix(ACK).split(".")
            if (found := self._consumer(consumer)) is not None:
                found.ack(int(sequence), int(delivery))
        elif subject.startswith(NEXT) and reply:
            found = self._consumer(subject.removeprefix(NEXT))
            if found is None:
                peer.say(reply, reply, "", b"", NOBODY)
            else:
                pull = _pull.decode(body)
                found.pull(peer, reply, pull.batch, pull.expires / 1e9)
        elif subject.startswith(DIRECT_GET) and self.stream is not None:
            for about, stored in directly(EVENTS, _stored(self.stream), subject, body):
                peer.say(reply, reply, "", stored, about)
        elif subject.startswith(DIRECT_GET_DEAD):
            for about, stored in self.dead.directly(subject, body):
                peer.say(reply, reply, "", stored, about)
        elif subject in self._subscribed:
            for other in self._subscribed[subject]:
                other.say(subject, subject, reply, body, head)
        elif b"Nats-Expected-Stream: none" in head or subject.startswith(NEXT):
            pass  # a probe: nothing is stored or delivered
        elif self.stream is None:
            peer.say(reply, reply, "", b"", NOBODY)
        else:
            self._store(self.stream, peer, subject, body, reply, head)

    def _store(self, stream: Stream, peer: Peer, subject: str, body: bytes, reply: str, head: bytes) -> None:
        if not reply.endswith(".$FI"):
            sequence, duplicate = stream.store(subject, body, head)
            again = ',"duplicate":true' if duplicate else ""
            peer.say(reply, reply, "", b'{"stream":"EVENTS","seq":%d%b}' % (sequence, again.encode()), b"")
            return
        *_, name, flow, _, number, operation, _ = reply.split(".")
        expected = self._batches.get((peer, name), 0) + 1
        if int(number) != expected:
            raise AssertionError(f"message {number} of batch {name} came where {expected} was expected")
        sequence, _ = stream.store(subject, body, head)
        self._batches[peer, name] = expected
        if operation == "2":
            del self._batches[peer, name]
            end = f'{{"stream":"EVENTS","seq":{sequence},"batch":"{name}","count":{number}}}'
            peer.say(reply, reply, "", end.encode(), b"")
        elif operation == "0":
            peer.say(reply, reply, "", b'{"type":"ack","seq":0,"msgs":%d}' % int(flow), b"")
        elif expected % int(flow) == 0:
            peer.say(reply, reply, "", b'{"type":"ack","seq":%d,"msgs":%d}' % (expected, int(flow)), b"")

    def _consumer(self, name: str) -> Consumer | None:
        return None if self.stream is None else self.stream.consumers.get(name)

    def forget(self, peer: Peer) -> None:
        """This client's connection is gone."""
        self.peers.remove(peer)
        for peers in self._subscribed.values():
            if peer in peers:
                peers.remove(peer)
        if self.stream is not None:
            for consumer in self.stream.consumers.values():
                consumer.forget(peer)

    # The API ----------------------------------------------------------------------------------------------------------

    def stream_info(self) -> StreamInfo:
        return self._stream().info()

    def add_stream(self, config: StreamConfig) -> StreamInfo:
        if self.stream is None:
            self._made += 1
            self.stream = Stream(config, EPOCH + timedelta(seconds=self._made))
        return self.stream.info()

    def consumer_info(self, name: str) -> ConsumerInfo:
        consumer = self._stream().consumers.get(name)
        if consumer is None:
            raise NotFoundError(code=404, err_code=10014, description="consumer not found")
        return consumer.info()

    def add_consumer(self, config: ConsumerConfig) -> ConsumerInfo:
        stream, name = self._stream(), str(config.durable_name)
        if name in stream.consumers:
            stream.consumers[name].configure(config)
        else:
            stream.consumers[name] = Consumer(config, stream)
        return stream.consumers[name].info()

    def reset_consumer(self, name: str, sequence: int | None) -> None:
        self.consumer_info(name)
        self._stream().consumers[name].reset(sequence)

    def read(self, subject: str, request: bytes) -> bytes:
        """The answer to a request for one message of a stream."""
        if subject.endswith(f".{DEAD}"):
            return self.dead.answer(request)
        return NO_STREAM if self.stream is None else by_api(_stored(self.stream), request)

    def _stream(self) -> Stream:
        if self.stream is None:
            raise NotFoundError(code=404, err_code=10059, description="stream not found")
        return self.stream

    # What happens to it -----------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The server is killed: every connection is gone, and so are the acknowledgements since the last write."""
        self.up = False
        for peer in list(self.peers):
            peer.cut()
        self._batches.clear()

    def write_down(self) -> None:
        """Consumers write their positions to the disk now and then."""
        if self.stream is not None:
            for consumer in self.stream.consumers.values():
                consumer.write_down()

    def lose_tail(self, messages: int) -> None:
        """A power cut: the last `messages` messages had not reached the disk."""
        if self.stream is not None:
            self.stream.lose_tail(min(messages, len(self.stream.messages)))
        self.dead.lose_tail(messages)

    def lose_everything(self) -> None:
        self.stream = None
        self.dead = Dead()

    def start(self) -> None:
        self.up = True
        if self.stream is not None:
            for consumer in self.stream.consumers.values():
                consumer.recover(len(self.stream.messages))


def _stored(stream: Stream) -> list[StoredMessage]:
    return [
        StoredMessage(one.sequence, one.subject, one.body, one.head, one.stored_ns // 1_000) for one in stream.messages
    ]
