"""Batches as the server answers them: what counts as stored, and what as refused."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from contracts.wire import MSG_ID
from infra.broker.client import VERSION_LINE, BrokerClient
from infra.broker.fast_ingest import FEWEST, FLOW, FastIngest, PublishRefused
from infra.broker.streams import EVENTS
from tests.infra.broker.mirroring import client, session
from tests.shop import PATIENCE_S, Shop

INBOX = "_INBOX.me"
THREE = [7, 8, 1_000]


def answered(batches: FastIngest, number: int, body: str) -> Sequence[int]:
    """What an answer to this message of the batch at 7 tells."""
    return batches.stored(f"{INBOX}.me-7.{FLOW}.fail.{number}.1.$FI".encode(), body.encode(), b"")


def begun(positions: Sequence[int]) -> FastIngest:
    batches = FastIngest(INBOX)
    batches.replies(positions)
    return batches


# What is said ---------------------------------------------------------------------------------------------------------


def test_a_batch_begins_goes_on_and_ends() -> None:
    assert FastIngest(INBOX).replies([7, 8, 9, 1_000]) == [
        f"{INBOX}.me-7.{FLOW}.fail.1.0.$FI",
        f"{INBOX}.me-7.{FLOW}.fail.2.1.$FI",
        f"{INBOX}.me-7.{FLOW}.fail.3.1.$FI",
        f"{INBOX}.me-7.{FLOW}.fail.4.2.$FI",
    ]


def test_messages_that_a_batch_is_not_worth_are_acknowledged_one_by_one() -> None:
    batches = FastIngest(INBOX)

    assert FEWEST == 3
    assert batches.replies([7, 1_000]) == [f"{INBOX}.7", f"{INBOX}.1000"]
    assert batches.stored(b"_INBOX.me.1000", b'{"stream":"EVENTS","seq":3}', b"") == [1_000]
    assert batches.stored(b"_INBOX.me.7", b'{"stream":"EVENTS","seq":2,"duplicate":true}', b"") == [7]


# What is answered -----------------------------------------------------------------------------------------------------


def test_each_answer_tells_what_the_ones_before_did_not() -> None:
    positions = range(7, 107)
    batches = begun(positions)

    assert not answered(batches, 1, '{"type":"ack","seq":0,"msgs":32}')
    assert answered(batches, 32, '{"type":"ack","seq":32,"msgs":32}') == positions[:32]
    assert answered(batches, 96, '{"type":"ack","seq":96,"msgs":32}') == positions[32:96]
    assert not answered(batches, 64, '{"type":"ack","seq":64,"msgs":32}')
    assert answered(batches, 100, '{"stream":"EVENTS","seq":500,"batch":"me-7","count":100}') == positions[96:]


def test_what_is_said_again_of_a_batch_that_has_ended_tells_nothing() -> None:
    batches = begun(THREE)
    end = '{"stream":"EVENTS","seq":9,"batch":"me-7","count":3}'

    assert answered(batches, 3, end) == THREE
    assert not answered(batches, 3, end)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"type":"gap","last_seq":2,"seq":3}', id="gap"),
        pytest.param('{"type":"err","seq":2,"error":{"code":503,"description":"full"}}', id="a message refused"),
        pytest.param('{"error":{"code":400,"description":"no"},"stream":"EVENTS","seq":0}', id="the batch refused"),
        pytest.param('{"stream":"EVENTS","seq":9,"batch":"me-7","count":2}', id="ended early"),
        pytest.param('{"stream":"EVENTS","seq":9}', id="a server that takes it for a message alone"),
        pytest.param('{"type":"unheard"}', id="of another kind"),
        pytest.param("+OK", id="not from JetStream"),
        pytest.param("", id="nobody there"),
    ],
)
def test_everything_else_is_a_refusal_and_is_handed_on(body: str) -> None:
    batches = begun(THREE)

    with pytest.raises(PublishRefused) as refused:
        batches.stored(f"{INBOX}.me-7.{FLOW}.fail.3.1.$FI".encode(), body.encode(), b"NATS/1.0 503\r\n\r\n")

    assert (body or "503") in str(refused.value)


# A real server --------------------------------------------------------------------------------------------------------


class Line:
    """Says things to the stream by batches, and keeps what the server makes of them."""

    def __init__(self, nc: BrokerClient) -> None:
        self.answers = 0
        self._nc = nc
        self._inbox = nc.new_inbox()
        self._ingest = FastIngest(self._inbox)
        self._told: asyncio.Queue[Sequence[int] | PublishRefused] = asyncio.Queue()

    async def listen(self) -> None:
        await self._nc.listen(f"{self._inbox}.>", self._note)

    def _note(self, subject: bytes, _: bytes, body: bytes, head: bytes) -> None:
        self.answers += 1
        try:
            self._told.put_nowait(self._ingest.stored(subject, body, head))
        except PublishRefused as refused:
            self._told.put_nowait(refused)

    async def say(self, positions: Sequence[int], *, but: int | None = None) -> None:
        """A batch of messages with these positions, one of which may get lost on the way."""
        replies = self._ingest.replies(positions)
        await self._nc.send_all(
            ("point.charged.ann", b"{}", reply, f"{VERSION_LINE}\r\n{MSG_ID}: ann@{position}\r\n\r\n")
            for position, reply in zip(positions, replies, strict=True)
            if position != but
        )

    async def stored(self, count: int) -> list[int]:
        """The positions that are known to be stored, once there are so many. Raises Refused."""
        known: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(known) < count:
                told = await self._told.get()
                if isinstance(told, PublishRefused):
                    raise told
                known += told
        return known


@pytest.fixture
async def line(broker: Shop) -> AsyncIterator[Line]:
    async with session(broker) as js:
        line = Line(client(js))
        await line.listen()
        yield line


async def ids(broker: Shop) -> list[int]:
    """The positions of all messages in the stream, in its order."""
    async with session(broker) as js:
        last = (await js.stream_info(EVENTS)).state.last_seq
        found = [await js.get_msg(EVENTS, sequence, direct=True) for sequence in range(1, last + 1)]
    return [int((message.headers or {})[MSG_ID].removeprefix("ann@")) for message in found]


async def test_a_batch_takes_an_answer_for_so_many_messages_and_two_more(line: Line) -> None:
    positions = range(1, 10 * FLOW + 2)

    await line.say(positions)

    assert await line.stored(len(positions)) == list(positions)
    assert line.answers == 12


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([1, 2, 3], id="its beginning"),
        pytest.param([4, 5, 6], id="its middle"),
        pytest.param([8, 9, 10], id="its end"),
        pytest.param(range(1, 11), id="all of it"),
    ],
)
async def test_what_the_stream_has_already_counts_as_stored_and_is_not_repeated(
    line: Line, broker: Shop, before: Sequence[int]
) -> None:
    await line.say(before)
    await line.stored(len(before))

    await line.say(range(11))

    assert await line.stored(11) == list(range(11))
    assert sorted(await ids(broker)) == list(range(11))


async def test_behind_a_message_that_got_lost_nothing_of_the_batch_is_stored(line: Line, broker: Shop) -> None:
    await line.say(range(1, 11), but=5)

    with pytest.raises(PublishRefused, match='"type":"gap","last_seq":5,"seq":6'):
        await line.stored(10)
    assert await ids(broker) == [1, 2, 3, 4]


async def test_a_batch_whose_beginning_got_lost_is_refused(line: Line, broker: Shop) -> None:
    await line.say(range(1, 11), but=1)

    with pytest.raises(PublishRefused, match="batch publish ID unknown"):
        await line.stored(10)
    assert await ids(broker) == []


async def test_a_batch_that_was_broken_off_stands_in_nobodys_way(line: Line, broker: Shop) -> None:
    await line.say(range(1, 11), but=10)  # the end: the server waits for it

    async with session(broker) as js:
        other = Line(client(js))
        await other.listen()
        await other.say(range(1, 101))

        assert await other.stored(100) == list(range(1, 101))
    assert await ids(broker) == list(range(1, 101))


async def test_a_stream_that_takes_no_batches_says_so(line: Line, broker: Shop) -> None:
    async with session(broker) as js:
        config = (await js.stream_info(EVENTS)).config
        config.allow_batched = False
        await js.update_stream(config)

    await line.say(THREE)

    with pytest.raises(PublishRefused, match="batch publish is disabled"):
        await line.stored(3)
