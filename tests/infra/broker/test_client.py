"""The direct path through nats-py, on a real broker, and the parts of the library it relies on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from nats.errors import ConnectionClosedError, MaxPayloadError

from infra.broker.client import VERSION_LINE, BrokerClient, header, status
from tests.shop import PATIENCE_S, Shop

HEADERS = f"{VERSION_LINE}\r\nNats-Msg-Id: order-o1@1\r\nFact-Version: 1\r\n\r\n"

Message = tuple[bytes, bytes, bytes, bytes]


class Inbox:
    """A handler that collects its messages."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._more = asyncio.Event()

    def __call__(self, subject: bytes, reply: bytes, body: bytes, raw_headers: bytes) -> None:
        self.messages.append((subject, reply, body, raw_headers))
        self._more.set()

    async def has(self, count: int) -> list[Message]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.messages) < count:
                self._more.clear()
                await self._more.wait()
        return self.messages


async def test_a_handler_gets_messages_as_they_travelled_and_in_their_order(broker: Shop) -> None:
    inbox = Inbox()
    async with broker.broker() as nc:
        await nc.listen("talk.*", inbox)
        await nc.send("talk.one", b"body", "reply.here", HEADERS)
        await nc.publish("talk.two", b"plain")
        await nc.publish("talk.three", b"\r\n", headers={"Name": "Value"})

        got = await inbox.has(3)

    assert got == [
        (b"talk.one", b"reply.here", b"body", HEADERS.encode()),
        (b"talk.two", b"", b"plain", b""),
        (b"talk.three", b"", b"\r\n", b"NATS/1.0\r\nName: Value\r\n\r\n"),
    ]


async def test_the_librarys_own_subscriptions_understand_sent_messages(broker: Shop) -> None:
    async with broker.broker() as nc:
        subscription = await nc.subscribe("talk.*")
        await nc.send("talk.one", b"body", "reply.here", HEADERS)
        message: Msg = await subscription.next_msg(timeout=PATIENCE_S)

    assert (message.subject, message.reply, message.data) == ("talk.one", "reply.here", b"body")
    assert message.headers == {"Nats-Msg-Id": "order-o1@1", "Fact-Version": "1"}


async def test_messages_that_are_sent_together_arrive_as_if_sent_one_by_one(broker: Shop) -> None:
    together = [(f"talk.{n}", b"." * n, f"reply.{n}", HEADERS) for n in range(300)]
    inbox = Inbox()
    async with broker.broker() as nc:
        await nc.listen("talk.*", inbox)
        await nc.send_all(together)
        got = await inbox.has(len(together))

    assert got == [(subject.encode(), reply.encode(), body, HEADERS.encode()) for subject, body, reply, _ in together]


async def test_more_than_the_librarys_queue_would_hold_comes_through_without_a_loss(broker: Shop) -> None:
    messages = 1_000
    inbox = Inbox()
    async with broker.broker() as nc, broker.broker() as other:
        await nc.listen("talk", inbox)
        await nc.flush()
        for n in range(messages):
            await other.send("talk", b"%d" % n + b" " * 20_000, "", HEADERS)
            if n % 50 == 49:
                await other.flush()  # else the broker may take this client for a slow consumer
        got = await inbox.has(messages)

    assert [int(body) for _, _, body, _ in got] == list(range(messages))


async def test_an_error_of_a_handler_is_reported_and_the_next_message_still_comes(broker: Shop) -> None:
    reported: list[Exception] = []
    inbox = Inbox()

    def clumsy(subject: bytes, reply: bytes, body: bytes, raw_headers: bytes) -> None:
        inbox(subject, reply, body, raw_headers)
        if body == b"bad":
            raise ValueError("bad")

    async def on_error(error: Exception) -> None:
        reported.append(error)

    nc = BrokerClient()
    await nc.connect(f"nats://127.0.0.1:{broker.env['NATS_PORT']}", error_cb=on_error)
    try:
        await nc.listen("talk", clumsy)
        await nc.publish("talk", b"bad")
        await nc.publish("talk", b"good")
        got = await inbox.has(2)
    finally:
        await nc.close()

    assert [body for _, _, body, _ in got] == [b"bad", b"good"]
    assert [str(error) for error in reported] == ["bad"]


async def test_nothing_is_sent_on_a_closed_connection(broker: Shop) -> None:
    async with broker.broker() as nc:
        pass

    with pytest.raises(ConnectionClosedError):
        await nc.send("talk", b"", "", HEADERS)


Use = Callable[[BrokerClient], Coroutine[Any, Any, object]]


@pytest.mark.parametrize(
    "use",
    [
        lambda nc: nc.send("talk", b"", "", HEADERS),
        lambda nc: nc.publish("talk", b""),
        lambda nc: nc.listen("talk", Inbox()),
        lambda nc: nc.request("talk", b""),
        lambda nc: nc._send_ping(),
    ],
    ids=["send", "publish", "listen", "request", "ping"],
)
def test_a_transport_that_has_closed_unread_is_a_closed_connection(broker: Shop, use: Use) -> None:
    """Services run on uvloop, whose closed transport refuses a write with RuntimeError."""

    async def used_after_the_end() -> None:
        nc = await connected(broker)
        try:
            assert nc._reading_task is not None
            nc._reading_task.cancel()
            cut(nc)
            await asyncio.gather(nc._transport.wait_closed(), return_exceptions=True)  # type: ignore[union-attr]
            with pytest.raises(ConnectionClosedError):
                await use(nc)
        finally:
            await nc.close()

    uvloop.run(used_after_the_end())


def test_a_ping_that_cannot_be_answered_does_not_end_the_reading(broker: Shop) -> None:
    """Reading has to go on until it finds the end of the connection, and tells it."""

    async def pinged_after_the_end(nc: BrokerClient) -> None:
        cut(nc)
        await nc._ps.parse(b"PING\r\n")

    uvloop.run(told_of_its_loss(broker, pinged_after_the_end))


def test_a_connection_that_ends_with_something_unsent_is_told(broker: Shop) -> None:
    async def cut_behind_a_ping(nc: BrokerClient) -> None:
        await nc._send_ping()
        nc._pending_data_size += 1
        cut(nc)

    uvloop.run(told_of_its_loss(broker, cut_behind_a_ping))


async def told_of_its_loss(broker: Shop, lose: Use) -> None:
    """Lose a connection; return when its client has said so."""
    lost = asyncio.Event()

    async def note() -> None:
        lost.set()

    nc = await connected(broker, disconnected_cb=note)
    await lose(nc)
    async with asyncio.timeout(PATIENCE_S):
        await lost.wait()
    await nc.close()


def cut(nc: BrokerClient) -> None:
    """Close the transport at once; the client finds out when it reads."""
    assert isinstance(nc._transport, TcpTransport)
    assert nc._transport._io_writer is not None
    nc._transport._io_writer.transport.abort()
    assert nc.is_connected


async def connected(broker: Shop, **options: Any) -> BrokerClient:
    nc = BrokerClient()
    await nc.connect(f"nats://127.0.0.1:{broker.env['NATS_PORT']}", allow_reconnect=False, **options)
    return nc


async def test_a_body_the_server_would_hang_up_on_is_not_sent(broker: Shop) -> None:
    async with broker.broker() as nc:
        with pytest.raises(MaxPayloadError):
            await nc.send("talk", b" " * (nc.max_payload + 1), "", HEADERS)
        await nc.flush()


async def test_of_messages_with_such_a_body_among_them_none_is_sent(broker: Shop) -> None:
    inbox = Inbox()
    async with broker.broker() as nc:
        await nc.listen("talk", inbox)
        with pytest.raises(MaxPayloadError):
            await nc.send_all([("talk", b"small", "", HEADERS), ("talk", b" " * (nc.max_payload + 1), "", HEADERS)])
        await nc.send("talk", b"afterwards", "", HEADERS)
        got = await inbox.has(1)

    assert [body for _, _, body, _ in got] == [b"afterwards"]


@pytest.mark.parametrize(
    ("name", "value"), [(b"Nats-Msg-Id", "order-o1@1"), (b"Fact-Version", "1"), (b"Msg-Id", ""), (b"Missing", "")]
)
def test_a_header_is_found_by_its_whole_name(name: bytes, value: str) -> None:
    assert header(HEADERS.encode(), name) == value


@pytest.mark.parametrize(
    ("raw_headers", "expected"),
    [
        (b"NATS/1.0 404 No Messages\r\n\r\n", ("404", "No Messages")),
        (b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 7\r\n\r\n", ("408", "Request Timeout")),
        (b"NATS/1.0 503\r\n\r\n", ("503", "")),
        (HEADERS.encode(), ("", "")),
        (b"", ("", "")),
    ],
)
def test_a_status_is_distinguished_from_a_message(raw_headers: bytes, expected: tuple[str, str]) -> None:
    assert status(raw_headers) == expected


@pytest.mark.parametrize("token", ["a\x0bb", "a\x0cb", "a\x1cb", "\x85", "k" * 3_900], ids=repr)
async def test_a_message_with_any_subject_that_the_server_takes_comes(broker: Shop, token: str) -> None:
    inbox = Inbox()
    async with broker.broker() as nc:
        await nc.listen("talk.*", inbox)
        await nc.send(f"talk.{token}", b"body", "reply.here", HEADERS)
        await nc.publish(f"talk.{token}", b"plain")

        got = await inbox.has(2)

    assert [(subject.decode(), body) for subject, _, body, _ in got] == [
        (f"talk.{token}", b"body"),
        (f"talk.{token}", b"plain"),
    ]


async def test_a_handler_that_is_no_longer_wanted_is_forgotten(broker: Shop) -> None:
    inbox = Inbox()
    async with broker.broker() as nc:
        subscription = await nc.listen("talk.*", inbox)
        await nc.unlisten(subscription)
        await nc.publish("talk.one", b"")
        await nc.flush()

        assert (inbox.messages, nc._handlers) == ([], {})
    await nc.unlisten(subscription)  # the connection is closed
