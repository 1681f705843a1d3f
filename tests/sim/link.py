"""A client's connection to the modelled server, with those methods of nats-py that `infra` uses on it.

Both directions keep their order and lose nothing until the connection is cut; then the messages on their way are lost.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, NoServersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig, ConsumerInfo, PubAck, StreamConfig, StreamInfo

from contracts.wire import POSITION
from infra.broker.client import MessageCallback, Outgoing
from infra.broker.connection import CONNECT_TIMEOUT_S
from infra.broker.errors import ConnectionLost
from infra.consuming.dead_letter import DEAD
from infra.settings import Settings
from tests.sim.chance import Chance
from tests.sim.jetstream import ACK
from tests.sim.server import Server
from tests.sim.steps import Reach, nowhere

T = TypeVar("T")

STORED: Final = b'{"stream"'
"""The beginning of the answer that facts are stored."""


class Way:
    """One direction of a connection: every message arrives, in order, some time later."""

    def __init__(self, chance: Chance, arrive: Callable[..., None], context: Context) -> None:
        """`context`: the context in which arrivals are handled."""
        self._context = context
        self._chance = chance
        self._arrive = arrive
        self._loop = asyncio.get_running_loop()
        self._last = 0.0
        self._on_its_way: list[tuple[Any, ...]] = []

    def send(self, *what: Any) -> None:
        self._on_its_way.append(what)
        if len(self._on_its_way) == 1 or self._chance.happens(0.1):
            self._last = max(self._last, self._loop.time() + self._chance.delay_s())
            self._loop.call_at(self._last, self._bring, context=self._context)

    def _bring(self) -> None:
        brought, self._on_its_way = self._on_its_way, []
        for what in brought:
            self._arrive(*what)

    def lose(self) -> None:
        self._on_its_way.clear()


class Link:
    """One connection. Once cut, the client learns of it after a while: at once, or by its unanswered pings."""

    connected_url = None
    max_payload = 1 << 20
    denied: ClassVar[list[str]] = []

    def __init__(self, server: Server, chance: Chance, lost: asyncio.Event, reach: Reach = nowhere) -> None:
        self._server = server
        self.reach = reach
        self._chance = chance
        self._lost = lost
        self._handlers: dict[str, MessageCallback] = {}
        self._inboxes = 0
        self.began = asyncio.get_running_loop().time()
        self._to_server = Way(chance, self._at_server, Context())
        self._to_client = Way(chance, self._at_client, copy_context())
        self._loop = asyncio.get_running_loop()
        self._answers: list[asyncio.Future[Any]] = []
        self.alive = True
        self.to_drop = 0
        self._name = f"_INBOX.{chance.getrandbits(48):012x}"
        server.peers.append(self)

    # The server's end -------------------------------------------------------------------------------------------------

    def say(self, inbox: str, subject: str, reply: str, body: bytes, head: bytes) -> None:
        if self.alive:
            self._to_client.send(inbox, subject, reply, body, head)

    def _at_server(self, work: Callable[[], None]) -> None:
        if self.alive:
            work()

    def cut(self, notice_s: float = 0.0) -> None:
        if not self.alive:
            return
        self.alive = False
        self._server.forget(self)
        self._to_server.lose()
        self._to_client.lose()
        self._loop.call_later(notice_s, self._notice)

    def _notice(self) -> None:
        self._lost.set()
        for answer in self._answers:
            _fail(answer, ConnectionClosedError())

    # The client's end -------------------------------------------------------------------------------------------------

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"{self._name}{self._inboxes}"

    async def listen(self, subject: str, handler: MessageCallback) -> str:
        self._handlers[subject.removesuffix(".>")] = handler
        if not subject.startswith(self._name):
            self._to_server.send(partial(self._server.subscribe, self, subject))
        return subject

    async def unlisten(self, inbox: str) -> None:
        self._handlers.pop(inbox, None)

    def _at_client(self, inbox: str, subject: str, reply: str, body: bytes, head: bytes) -> None:
        if self.to_drop:
            self.to_drop -= 1
        elif self.alive:
            prefix, _, rest = inbox.partition(".")
            handler = self._handlers.get(f"{prefix}.{rest.partition('.')[0]}")
            if handler is not None:
                handler(subject.encode(), reply.encode(), body, head)
                if reply:
                    self.reach("heard")
                elif body.startswith(STORED):
                    self.reach("published")

    async def at(self, step: str) -> None:
        """The process has come to this step."""
        if self.reach(step):
            await asyncio.sleep(0)

    async def publish(self, subject: str, body: bytes, reply: str = "") -> None:
        acknowledges = subject.startswith(ACK)
        if acknowledges:
            await self.at("acknowledging")
        self._send([(subject, body, reply, "")])
        if acknowledges:
            await self.at("acknowledged")

    async def send_all(self, messages: Iterable[Outgoing]) -> None:
        prepared = list(messages)
        facts = any(POSITION in head for *_, head in prepared[:1])
        if facts:
            await self.at("sending")
        self._send(prepared)
        if facts:
            await self.at("sent")

    def _send(self, messages: Iterable[Outgoing]) -> None:
        if self._lost.is_set():
            raise ConnectionClosedError
        for subject, body, reply, head in messages:
            self._to_server.send(partial(self._server.take, self, subject, body, reply, head.encode()))

    async def flush(self) -> None:
        await self.call(lambda: None)

    async def request(self, subject: str, body: bytes, *, timeout: float) -> Msg:  # noqa: ASYNC109 - the library has it
        """The answer of JetStream's API about a stored message."""
        data = await self.call(lambda: self._server.read(subject, body))
        return Msg(self, subject, data=data)  # type: ignore[arg-type]

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` at the server. Raises the errors of `work`, ConnectionClosedError, TimeoutError."""
        if self._lost.is_set():
            raise ConnectionClosedError
        answer: asyncio.Future[T] = self._loop.create_future()
        self._answers.append(answer)

        def at_server() -> None:
            try:
                result = work()
            except Exception as error:
                self._loop.call_later(self._chance.delay_s(), _fail, answer, error)
            else:
                self._loop.call_later(self._chance.delay_s(), _answer, answer, result)

        self._to_server.send(at_server)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise NatsTimeout from None
        finally:
            self._answers.remove(answer)

    def jetstream(self, timeout: float) -> "JetStream":
        return JetStream(self, self._server)


def _answer(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


class JetStream:
    """The methods of JetStream's API that `infra` uses."""

    def __init__(self, link: Link, server: Server) -> None:
        self._link = link
        self._server = server

    async def stream_info(self, name: str, subjects_filter: str | None = None) -> StreamInfo:
        server = self._server
        return await self._link.call(
            lambda: server.dead.info(subjects_filter) if name == DEAD else server.stream_info(name)
        )

    async def add_stream(self, config: StreamConfig) -> StreamInfo:
        server = self._server
        return await self._link.call(lambda: (server.dead.make if config.name == DEAD else server.add_stream)(config))

    async def update_stream(self, config: StreamConfig) -> StreamInfo:
        info = await self._link.call(lambda: self._server.update_stream(config))
        await self._link.at("labeled")
        return info

    async def consumers_info(self, stream: str) -> list[ConsumerInfo]:
        return await self._link.call(lambda: self._server.consumers_info(stream))

    async def publish(self, subject: str, body: bytes, *, stream: str, headers: dict[str, str]) -> PubAck:
        """Publish into DEAD; facts are published another way."""
        ack = await self._link.call(lambda: self._server.dead.store(subject, body, headers))
        await self._link.at("parked")
        return ack

    async def delete_msg(self, _: str, sequence: int) -> bool:
        return await self._link.call(lambda: self._server.dead.delete(sequence))

    async def consumer_info(self, stream: str, name: str) -> ConsumerInfo:
        await self._link.at("resumed")
        return await self._link.call(lambda: self._server.consumer_info(stream, name))

    async def add_consumer(self, stream: str, config: ConsumerConfig) -> ConsumerInfo:
        return await self._link.call(lambda: self._server.add_consumer(stream, config, self._link))

    async def delete_consumer(self, stream: str, name: str) -> None:
        await self._link.call(lambda: self._server.delete_consumer(stream, name))
        await self._link.at("read")

    async def delete_stream(self, name: str) -> None:
        await self._link.at("deleting")
        await self._link.call(lambda: self._server.delete_stream(name))
        await self._link.at("deleted")

    async def reset_consumer(self, stream: str, name: str, sequence: int | None = None) -> None:
        await self._link.call(lambda: self._server.reset_consumer(stream, name, sequence))
        await self._link.at("reset")


class Network:
    """One process's way to the server."""

    def __init__(self, server: Server, chance: Chance, reach: Reach = nowhere) -> None:
        self._server = server
        self._chance = chance
        self._reach = reach
        self._link: Link | None = None
        self.alive = True

    @contextlib.asynccontextmanager
    async def connect(
        self, settings: Settings, name: str, stopping: asyncio.Event
    ) -> AsyncIterator[tuple[Link, asyncio.Event]]:
        """The counterpart of `infra.broker.connection.connect`."""
        await asyncio.sleep(self._chance.delay_s())
        if stopping.is_set():
            raise ConnectionLost("asked to stop while connecting")
        if not self._server.up or not self.alive:
            raise NoServersError
        lost = asyncio.Event()
        self._link = link = Link(self._server, self._chance, lost, self._reach)
        try:
            await link.at("connected")
            yield link, lost
        finally:
            link.cut()

    def cut(self, notice_s: float = 0.0) -> None:
        """Cut the connection; the process learns of it after `notice_s` seconds."""
        if self._link is not None:
            self._link.cut(notice_s)

    def drop(self, messages: int) -> None:
        """Let the next `messages` messages reach the client and get lost there."""
        if self._link is not None:
            self._link.to_drop = messages

    def die(self) -> None:
        self.alive = False
        self.cut()
