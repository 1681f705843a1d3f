"""The other side of the modelled server: the messages that clients send it, and its faults."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, NamedTuple, Protocol

import msgspec
from nats.js.api import ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError

from infra.broker.client import VERSION_LINE
from infra.broker.generations import NAMES
from infra.broker.numbering import generation_of, number_of, stream_name
from infra.broker.stored import StoredMessage
from infra.consuming.dead_letter import DEAD
from tests.sim.chance import Chance
from tests.sim.dead import Dead
from tests.sim.jetstream import ACK, EPOCH, Consumer, Peer, Reader, Stored, Stream
from tests.sim.loop import running
from tests.sim.reading import NO_STREAM, by_api, directly

NEXT: Final = "$JS.API.CONSUMER.MSG.NEXT."
STREAM_INFO: Final = "$JS.API.STREAM.INFO."
DIRECT_GET: Final = "$JS.API.DIRECT.GET."
SEALED: Final = b'{"error":{"code":400,"err_code":10109,"description":"invalid operation on sealed stream"},"seq":0}'
NOBODY: Final = f"{VERSION_LINE} 503\r\n\r\n".encode()


BROKEN_OFF: Final = -1
"""In place of the number of a batch's last message: its leader is gone, and no other knows of it."""
SYNCED_AFTER_S: Final = 2.0
"""After this the deletion of a stream outlives a power cut."""
UNHEARD: Final = 0.4
"""The share of messages that get lost while the leader changes."""
UNANSWERED: Final = 0.7
"""The share of those that get lost, or are stored but not acknowledged."""


class Copy(NamedTuple):
    """A copy of a stream as it once was: a follower's, by the stream's name, or a mirror's by its own."""

    of: str
    name: str
    messages: list[Stored]
    chance: Chance
    """Whether it is the one that answers."""


class _Pull(msgspec.Struct):
    batch: int
    expires: int
    """ns"""


_pull: Final = msgspec.json.Decoder(_Pull)


class Witness(Protocol):
    """What looks at each message as it is stored, and at each generation that a client deletes, just before it goes."""

    def stored(self, peer: Peer, message: Stored) -> None: ...
    def deletes(self, stream: Stream) -> None: ...


class Server:
    """One nats-server. `up`: whether it answers. Its data, or a part of them, outlive its crashes."""

    def __init__(self, lag_s: Callable[[], float] = lambda: 0.0) -> None:
        """`lag_s` draws how much later than the stream each of its consumers has a message."""
        self.up = True
        self._lag_s = lag_s
        self.streams: dict[int, Stream] = {}
        """The generations, by number."""
        self.dead = Dead()
        self.peers: list[Peer] = []
        self._batches: dict[tuple[int, Peer, str], int] = {}
        """By generation, client and name of the batch: the number of its last message."""
        self._subscribed: dict[str, list[Peer]] = {}
        """By subject: the subscribers. Subscriptions to inboxes need no entry."""
        self._made = 0
        self.witness: Witness | None = None
        self._deleted: list[tuple[float, Stream]] = []
        """The generations that clients have deleted, and when."""
        self._loop = running()
        self.election: Chance | None = None
        """While the stream changes its leader: what decides which publishes get lost or are not answered."""
        self.copy: Copy | None = None
        self.lost_after = 0
        """How many messages the generations kept together when they lost some the last time."""
        self.loser: str | None = None
        """The service of the first message that was lost then."""

    @property
    def stream(self) -> Stream | None:
        """The newest generation."""
        return self.streams[max(self.streams)] if self.streams else None

    @property
    def messages(self) -> list[Stored]:
        """The messages of all generations, one generation after another."""
        return [message for number in sorted(self.streams) for message in self.streams[number].messages]

    @property
    def consumers(self) -> list[Consumer]:
        return [consumer for stream in self.streams.values() for consumer in stream.consumers.values()]

    def subscribe(self, peer: Peer, subject: str) -> None:
        self._subscribed.setdefault(subject, []).append(peer)

    # What clients send ------------------------------------------------------------------------------------------------

    def take(self, peer: Peer, subject: str, body: bytes, reply: str, head: bytes) -> None:
        """A message that a client published."""
        if subject.startswith(ACK):
            name, consumer, _, sequence, delivery, *_ = subject.removeprefix(ACK).split(".")
            if (found := self._consumer(name, consumer)) is not None:
                found.ack(int(sequence), int(delivery))
        elif subject.startswith(NEXT) and reply:
            found = self._consumer(*subject.removeprefix(NEXT).split("."))
            if found is None:
                peer.say(reply, reply, "", b"", NOBODY)
            else:
                pull = _pull.decode(body)
                found.pull(peer, reply, pull.batch, pull.expires / 1e9)
        elif subject.startswith(DIRECT_GET) and (stream := self._named(subject.split(".")[4])) is not None:
            messages, answered_by = self._direct(stream)
            for about, stored in directly(answered_by, _readable(messages), subject, body):
                peer.say(reply, reply, "", stored, about)
        elif subject.startswith(f"{DIRECT_GET}{DEAD}"):
            for about, stored in self.dead.directly(subject, body):
                peer.say(reply, reply, "", stored, about)
        elif subject in self._subscribed:
            for other in self._subscribed[subject]:
                other.say(subject, subject, reply, body, head)
        elif b"Nats-Expected-Stream: none" in head or subject.startswith(NEXT):
            pass  # a probe: nothing is stored or delivered
        else:
            begin, _, rest = subject.partition(".")
            later = begin[:1] == "l" and begin[1:].isdigit()
            stream = self.streams.get(int(begin[1:]) if later else 0)
            if stream is None:
                peer.say(reply, reply, "", b"", NOBODY)
            elif stream.config.sealed:
                peer.say(reply, reply, "", SEALED, b"")
            else:
                self._store(stream, peer, rest if later else subject, body, reply, head)

    def _store(self, stream: Stream, peer: Peer, subject: str, body: bytes, reply: str, head: bytes) -> None:
        fate = 1.0 if self.election is None else self.election.random()
        if fate < UNHEARD:
            self._loop.note("no leader hears of {}", subject)
            if reply.endswith(".$FI"):
                self._batches[stream.number, peer, reply.split(".")[-6]] = BROKEN_OFF
            return
        if not reply.endswith(".$FI"):
            sequence, duplicate = self._keep(stream, peer, subject, body, head)
            if fate < UNANSWERED:
                return
            again = ',"duplicate":true' if duplicate else ""
            peer.say(reply, reply, "", f'{{"stream":"{stream.name}","seq":{sequence}{again}}}'.encode(), b"")
            return
        *_, name, flow, _, number, operation, _ = reply.split(".")
        batch = stream.number, peer, name
        if (last := self._batches.get(batch, 0)) == BROKEN_OFF:
            return
        expected = last + 1
        if int(number) != expected:
            raise AssertionError(f"message {number} of batch {name} came where {expected} was expected")
        self._keep(stream, peer, subject, body, head)
        self._batches[batch] = expected if fate >= UNANSWERED else BROKEN_OFF
        if fate < UNANSWERED:
            return
        if operation == "2":
            del self._batches[batch]
            end = f'{{"stream":"{stream.name}","seq":{stream.last},"batch":"{name}","count":{number}}}'
            peer.say(reply, reply, "", end.encode(), b"")
        elif operation == "0":
            peer.say(reply, reply, "", b'{"type":"ack","seq":0,"msgs":%d}' % int(flow), b"")
        elif expected % int(flow) == 0:
            peer.say(reply, reply, "", b'{"type":"ack","seq":%d,"msgs":%d}' % (expected, int(flow)), b"")

    def _keep(self, stream: Stream, peer: Peer, subject: str, body: bytes, head: bytes) -> tuple[int, bool]:
        sequence, duplicate = stream.store(subject, body, head)
        if self.witness is not None and not duplicate:
            self.witness.stored(peer, stream.at(sequence))
        return sequence, duplicate

    def _named(self, name: str) -> Stream | None:
        number = number_of(name)
        return None if number is None else self.streams.get(number)

    def _consumer(self, stream: str, name: str) -> Consumer | None:
        found = self._named(stream)
        return None if found is None else found.consumers.get(name)

    def forget(self, peer: Peer) -> None:
        """This client's connection is gone."""
        self.peers.remove(peer)
        for peers in self._subscribed.values():
            if peer in peers:
                peers.remove(peer)
        for consumer in self.consumers:
            consumer.forget(peer)
        self._drop_readers(peer)

    def _drop_readers(self, peer: Peer | None = None) -> None:
        for stream in self.streams.values():
            for name, one in list(stream.consumers.items()):
                if isinstance(one, Reader) and (peer is None or one.peer is peer):
                    del stream.consumers[name]

    # The API ----------------------------------------------------------------------------------------------------------

    def stream_info(self, name: str) -> StreamInfo:
        return self._stream(name).info()

    def add_stream(self, config: StreamConfig) -> StreamInfo:
        number = number_of(str(config.name)) or 0
        if number not in self.streams:
            self._made += 1
            created = EPOCH + timedelta(seconds=self._loop.time(), microseconds=self._made)
            self.streams[number] = Stream(config, created, self._lag_s)
        return self.streams[number].info()

    def update_stream(self, config: StreamConfig) -> StreamInfo:
        stream = self._stream(str(config.name))
        if config.sealed and not stream.config.sealed:
            self._loop.note("{} is sealed", stream.name)
        stream.config = config
        return stream.info()

    def consumers_info(self, stream: str) -> list[ConsumerInfo]:
        return [consumer.info() for consumer in self._stream(stream).consumers.values()]

    def consumer_info(self, stream: str, name: str) -> ConsumerInfo:
        consumer = self._stream(stream).consumers.get(name)
        if consumer is None:
            raise NotFoundError(code=404, err_code=10014, description="consumer not found")
        consumer.go_back_for_a_new_process()
        return consumer.info()

    def add_consumer(self, stream_named: str, config: ConsumerConfig, peer: Peer) -> ConsumerInfo:
        stream, name = self._stream(stream_named), config.durable_name
        if name is None:
            self._made += 1
            name = f"reader-{self._made}"
            stream.consumers[name] = Reader(config, stream, name, peer)
        elif name in stream.consumers:
            stream.consumers[name].configure(config)
        else:
            stream.consumers[name] = Consumer(config, stream, name)
        return stream.consumers[name].info()

    def delete_consumer(self, stream: str, name: str) -> None:
        self.consumer_info(stream, name)
        self._stream(stream).consumers.pop(name).end()

    def delete_stream(self, name: str) -> None:
        stream = self._stream(name)
        if self.witness is not None:
            self.witness.deletes(stream)
        self._remove(stream)
        self._deleted.append((self._loop.time(), stream))

    def reset_consumer(self, stream: str, name: str, sequence: int | None) -> None:
        self.consumer_info(stream, name)
        self._stream(stream).consumers[name].reset(sequence)

    def read(self, subject: str, request: bytes) -> bytes:
        """The answer to a request for a message, for the sequences without one, or for the names of all streams."""
        if subject == NAMES:
            names = [stream_name(number) for number in self.streams]
            return msgspec.json.encode({"total": len(names), "streams": names})
        if subject.endswith(f".{DEAD}"):
            return self.dead.answer(request)
        stream = self._named(subject.rpartition(".")[2])
        if stream is not None and subject.startswith(STREAM_INFO):
            return b'{"state":{"deleted":%a}}' % (stream.holes,)
        return NO_STREAM if stream is None else by_api(_readable(stream.messages), request)

    def _direct(self, stream: Stream) -> tuple[list[Stored], str]:
        """The messages of whoever answers a direct get, and its name: any copy of the stream may."""
        copy = self.copy
        if copy is None or copy.of != stream.name or not copy.chance.happens(0.7):
            return stream.messages, stream.name
        return copy.messages, copy.name

    def _stream(self, name: str) -> Stream:
        stream = self._named(name)
        if stream is None:
            raise NotFoundError(code=404, err_code=10059, description="stream not found")
        return stream

    # What happens to it -----------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The server is killed: every connection is gone, and so are the acknowledgements since the last write."""
        self.up = False
        for peer in list(self.peers):
            peer.cut()
        self._batches.clear()
        self._drop_readers()

    def write_down(self) -> None:
        """Consumers write their positions to the disk now and then."""
        for consumer in self.consumers:
            consumer.write_down()

    def lose_tail(self, messages: int, *, of_each: bool = False) -> None:
        """A power cut: the last `messages` messages had not reached the disk; those `of_each` generation, or of all.

        Each stream has files of its own, which are synced at times of their own.
        """
        had = sorted(self.messages, key=lambda message: (message.at, message.sequence))
        lost = had[max(0, len(had) - messages) :]
        if of_each:
            tails = (stream.messages[max(0, len(stream.messages) - messages) :] for stream in self.streams.values())
            lost = [message for tail in tails for message in tail]
        self.lost_after = len(had) - len(lost)
        self._lost(lost)
        for stream in self.streams.values():
            stream.lose_tail(sum(generation_of(message.sequence) == stream.number for message in lost))
        self.dead.lose_tail(messages)

    def lose_again(self) -> None:
        """Lose what was written since the last loss: the same place is lost once more."""
        self.lose_tail(max(0, len(self.messages) - self.lost_after))

    def lose_some(self, chance: Chance, messages: int, window: int) -> None:
        """The new leader lacks some of the last messages, which were acknowledged to their publishers.

        Only such as may be missing: a relay sends no position before all that are a window further back are stored.
        Or one server has lost the end of a file of messages though the next file was written: so many in a row.
        """
        if chance.happens(0.5):
            self._lose_in_a_row(int(chance.random() * len(self.messages)), messages)
            return
        newest: dict[str, int] = {}
        for message in self.messages:
            if message.subject:
                newest[message.service] = max(newest.get(message.service, 0), message.position)
        may = [
            message
            for message in self.messages[-messages:]
            if message.subject and message.position > newest[message.service] - window
        ]
        lost = [message for message in may if chance.happens(0.5)]
        self._lose(lost)

    def _lose_in_a_row(self, first: int, messages: int) -> None:
        self._lose([message for message in self.messages[first : first + messages] if message.subject])

    def _lose(self, lost: Sequence[Stored]) -> None:
        self._lost(lost)
        for stream in self.streams.values():
            stream.lose([one.sequence for one in lost if generation_of(one.sequence) == stream.number])

    def _lost(self, messages: Sequence[Stored]) -> None:
        self.loser = messages[0].service if messages else self.loser
        if self.copy is not None and self.copy.name == self.copy.of:
            self.copy = None  # a follower takes over what the leader has

    def lose_everything(self) -> None:
        self._lose_stream()
        self.dead = Dead()

    def _lose_stream(self) -> None:
        self.lost_after = 0
        self._lost(self.messages)
        self.streams.clear()

    def remove_stream(self, *, make: bool = False, number: int | None = None) -> None:
        """An operator deletes a generation, by default the newest, under the connections; or makes it again at once."""
        stream = self.stream if number is None else self.streams.get(number)
        if stream is not None:
            self._lost(stream.messages)
            self._remove(stream)
            self.lost_after = len(self.messages)
            if make:
                self.add_stream(replace(stream.config, sealed=False))

    def _remove(self, stream: Stream) -> None:
        self._loop.note("{} is deleted", stream.name)
        for consumer in stream.consumers.values():
            consumer.end()
        self._batches.update({batch: BROKEN_OFF for batch in self._batches if batch[0] == stream.number})
        del self.streams[stream.number]

    def bring_back(self, messages: int) -> None:
        """A power cut: the generations that clients have just deleted are there again, but for their last messages."""
        for at, stream in self._deleted:
            if self._loop.time() - at < SYNCED_AFTER_S and stream.number not in self.streams:
                self._loop.note("{} is there again", stream.name)
                stream.lose_tail(min(messages, len(stream.messages)))
                self.streams = dict(sorted([*self.streams.items(), (stream.number, stream)]))
        self._deleted.clear()

    def start(self, *, outlived: bool = False) -> None:
        """`outlived`: the consumers have kept all, also of messages that the stream lost."""
        self.up = True
        for stream in self.streams.values():
            for consumer in stream.consumers.values():
                (consumer.outlive if outlived else consumer.recover)(stream.last)

    def serves_a_new_process(self, name: str) -> None:
        """The service was started: this process has received nothing yet."""
        for consumer in self.consumers_of(name):
            consumer.is_new_to = True

    def consumers_of(self, service: str) -> list[Consumer]:
        begin = f"{service}-hears-"
        return [consumer for consumer in self.consumers if str(consumer.config.durable_name).startswith(begin)]


def _readable(messages: Sequence[Stored]) -> list[StoredMessage]:
    """What readers can find of these messages: holes are none."""
    return [
        StoredMessage(one.sequence, one.subject, one.body, one.head, one.stored_ns) for one in messages if one.subject
    ]
