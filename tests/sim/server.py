"""The other side of the modelled server: the messages that clients send it, and its faults."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import msgspec
from nats.js.api import ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError

from infra.broker.client import VERSION_LINE
from infra.broker.stored import StoredMessage
from infra.broker.streams import EVENTS
from infra.consuming.dead_letter import DEAD
from tests.sim.chance import Chance
from tests.sim.dead import Dead
from tests.sim.jetstream import ACK, EPOCH, Consumer, Peer, Stored, Stream
from tests.sim.loop import running
from tests.sim.reading import NO_STREAM, by_api, directly

NEXT: Final = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}."
STREAM_INFO: Final = f"$JS.API.STREAM.INFO.{EVENTS}"
DIRECT_GET: Final = f"$JS.API.DIRECT.GET.{EVENTS}"
DIRECT_GET_DEAD: Final = f"$JS.API.DIRECT.GET.{DEAD}"
NOBODY: Final = f"{VERSION_LINE} 503\r\n\r\n".encode()


BROKEN_OFF: Final = -1
"""In place of the number of a batch's last message: its leader is gone, and no other knows of it."""
UNHEARD: Final = 0.4
"""The share of messages that get lost while the leader changes."""
UNANSWERED: Final = 0.7
"""The share of those that get lost, or are stored but not acknowledged."""


class Copy(NamedTuple):
    """A copy of the stream as it once was: a follower's, by the name of EVENTS, or a mirror's by its own."""

    name: str
    messages: list[Stored]
    chance: Chance
    """Whether it is the one that answers."""


class _Pull(msgspec.Struct):
    batch: int
    expires: int
    """ns"""


_pull: Final = msgspec.json.Decoder(_Pull)


class Server:
    """One nats-server. `up`: whether it answers. Its data, or a part of them, outlive its crashes."""

    def __init__(self, lag_s: Callable[[], float] = lambda: 0.0) -> None:
        """`lag_s` draws how much later than the stream each of its consumers has a message."""
        self.up = True
        self._lag_s = lag_s
        self.stream: Stream | None = None
        self.dead = Dead()
        self.peers: list[Peer] = []
        self._batches: dict[tuple[Peer, str], int] = {}
        self._subscribed: dict[str, list[Peer]] = {}
        """By subject: the subscribers. Subscriptions to inboxes need no entry."""
        self._made = 0
        self._loop = running()
        self.election: Chance | None = None
        """While the stream changes its leader: what decides which publishes get lost or are not answered."""
        self.copy: Copy | None = None
        self.lost_after = 0
        """The last sequence that the stream kept when it lost messages the last time."""
        self.loser: str | None = None
        """The service of the first message that was lost then."""

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
            messages, answered_by = self._direct(self.stream)
            for about, stored in directly(answered_by, _readable(messages), subject, body):
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
        fate = 1.0 if self.election is None else self.election.random()
        if fate < UNHEARD:
            self._loop.note("no leader hears of {}", subject)
            if reply.endswith(".$FI"):
                self._batches[peer, reply.split(".")[-6]] = BROKEN_OFF
            return
        if not reply.endswith(".$FI"):
            sequence, duplicate = stream.store(subject, body, head)
            if fate < UNANSWERED:
                return
            again = ',"duplicate":true' if duplicate else ""
            peer.say(reply, reply, "", b'{"stream":"EVENTS","seq":%d%b}' % (sequence, again.encode()), b"")
            return
        *_, name, flow, _, number, operation, _ = reply.split(".")
        if (last := self._batches.get((peer, name), 0)) == BROKEN_OFF:
            return
        expected = last + 1
        if int(number) != expected:
            raise AssertionError(f"message {number} of batch {name} came where {expected} was expected")
        stream.store(subject, body, head)
        self._batches[peer, name] = expected if fate >= UNANSWERED else BROKEN_OFF
        if fate < UNANSWERED:
            return
        if operation == "2":
            del self._batches[peer, name]
            end = f'{{"stream":"EVENTS","seq":{len(stream.messages)},"batch":"{name}","count":{number}}}'
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
            created = EPOCH + timedelta(seconds=self._loop.time(), microseconds=self._made)
            self.stream = Stream(config, created, self._lag_s)
        return self.stream.info()

    def consumer_info(self, name: str) -> ConsumerInfo:
        consumer = self._stream().consumers.get(name)
        if consumer is None:
            raise NotFoundError(code=404, err_code=10014, description="consumer not found")
        consumer.go_back_for_a_new_process()
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
        """The answer to a request for one message of a stream, or for the sequences that have none."""
        if subject == STREAM_INFO:
            return NO_STREAM if self.stream is None else b'{"state":{"deleted":%a}}' % (self.stream.holes,)
        if subject.endswith(f".{DEAD}"):
            return self.dead.answer(request)
        return NO_STREAM if self.stream is None else by_api(_readable(self.stream.messages), request)

    def _direct(self, stream: Stream) -> tuple[list[Stored], str]:
        """The messages of whoever answers a direct get, and its name: any copy of the stream may."""
        copy = self.copy
        if copy is None or not copy.chance.happens(0.7):
            return stream.messages, EVENTS
        return copy.messages, copy.name

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
            had = self.stream.messages
            self.lost_after = max(0, len(had) - messages)
            self._lost(had[self.lost_after :])
            self.stream.lose_tail(len(had) - self.lost_after)
        self.dead.lose_tail(messages)

    def lose_again(self) -> None:
        """Lose what was written since the last loss: the same place is lost once more."""
        if self.stream is not None:
            self.lose_tail(max(0, len(self.stream.messages) - self.lost_after))

    def lose_some(self, chance: Chance, messages: int, window: int) -> None:
        """The new leader lacks some of the last messages, which were acknowledged to their publishers.

        Only such as may be missing: a relay sends no position before all that are a window further back are stored.
        Or one server has lost the end of a file of messages though the next file was written: so many in a row.
        """
        if self.stream is None:
            return
        if chance.happens(0.5):
            first = int(chance.random() * len(self.stream.messages))
            lost = [message for message in self.stream.messages[first : first + messages] if message.subject]
            self._lost(lost)
            self.stream.lose([message.sequence for message in lost])
            return
        newest: dict[str, int] = {}
        for message in self.stream.messages:
            if message.subject:
                newest[message.service] = max(newest.get(message.service, 0), message.position)
        may = [
            message
            for message in self.stream.messages[-messages:]
            if message.subject and message.position > newest[message.service] - window
        ]
        lost = [message for message in may if chance.happens(0.5)]
        self._lost(lost)
        self.stream.lose([message.sequence for message in lost])

    def _lost(self, messages: Sequence[Stored]) -> None:
        self.loser = messages[0].service if messages else self.loser
        if self.copy is not None and self.copy.name == EVENTS:
            self.copy = None  # a follower takes over what the leader has

    def lose_everything(self) -> None:
        self._lose_stream()
        self.dead = Dead()

    def _lose_stream(self) -> None:
        self.lost_after = 0
        self._lost(self.stream.messages if self.stream else ())
        self.stream = None

    def remove_stream(self, *, make: bool = False) -> None:
        """An operator deletes EVENTS under the connections, and with `make` makes it again."""
        if self.stream is not None:
            config = self.stream.config
            self._loop.note("the stream is deleted")
            for consumer in self.stream.consumers.values():
                consumer.end()
            self._batches.clear()
            self._lose_stream()
            if make:
                self.add_stream(config)

    def start(self, *, outlived: bool = False) -> None:
        """`outlived`: the consumers have kept all, also of messages that the stream lost."""
        self.up = True
        if self.stream is not None:
            last = len(self.stream.messages)
            for consumer in self.stream.consumers.values():
                (consumer.outlive if outlived else consumer.recover)(last)

    def serves_a_new_process(self, name: str) -> None:
        """The service was started: this process has received nothing yet."""
        for consumer in self.consumers_of(name):
            consumer.is_new_to = True

    def consumers_of(self, service: str) -> list[Consumer]:
        if self.stream is None:
            return []
        consumers = self.stream.consumers.items()
        return [consumer for name, consumer in consumers if name.startswith(f"{service}-hears-")]


def _readable(messages: Sequence[Stored]) -> list[StoredMessage]:
    """What readers can find of these messages: holes are none."""
    return [
        StoredMessage(one.sequence, one.subject, one.body, one.head, one.stored_ns) for one in messages if one.subject
    ]
