"""Fast ingest: which answers of the server count as stored, and which as refused."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from contracts.wire import MSG_ID
from infra.broker.client import VERSION_LINE, BrokerClient
from infra.broker.fast_ingest import FEWEST, FLOW, FastIngest, PublishRefused, TakenForRepeat
from infra.broker.numbering import EVENTS
from tests.infra.broker.mirroring import client, session
from tests.shop import PATIENCE_S, Shop

INBOX = "_INBOX.me"
THREE = [7, 8, 1_000]


def answered(batches: FastIngest, number: int, body: str) -> Sequence[int]:
    """The positions that this answer to the nth message of the batch at 7 reports."""
    return batches.stored(f"{INBOX}.me-7.{FLOW}.fail.{number}.1.$FI".encode(), body.encode(), b"")


def begun(positions: Sequence[int]) -> FastIngest:
    batches = FastIngest(INBOX)
    batches.replies(positions)
    return batches


# Reply subjects -------------------------------------------------------------------------------------------------------


def test_a_batch_has_a_beginning_a_middle_and_an_end() -> None:
    assert FastIngest(INBOX).replies([7, 8, 9, 1_000]) == [
        f"{INBOX}.me-7.{FLOW}.fail.1.0.$FI",
        f"{INBOX}.me-7.{FLOW}.fail.2.1.$FI",
        f"{INBOX}.me-7.{FLOW}.fail.3.1.$FI",
        f"{INBOX}.me-7.{FLOW}.fail.4.2.$FI",
    ]


def test_fewer_messages_than_a_batch_needs_are_acknowledged_one_by_one() -> None:
    batches = FastIngest(INBOX)

    assert FEWEST == 3
    assert batches.replies([7, 1_000]) == [f"{INBOX}.7", f"{INBOX}.1000"]
    assert batches.stored(b"_INBOX.me.1000", b'{"stream":"EVENTS","seq":3}', b"") == [1_000]
    with pytest.raises(TakenForRepeat) as repeat:
        batches.stored(b"_INBOX.me.7", b'{"stream":"EVENTS","seq":2,"duplicate":true}', b"")
    assert (repeat.value.position, repeat.value.sequence) == (7, 2)


# Answers --------------------------------------------------------------------------------------------------------------


def test_each_answer_reports_only_what_is_new() -> None:
    positions = range(7, 107)
    batches = begun(positions)

    assert not answered(batches, 1, '{"type":"ack","seq":0,"msgs":32}')
    assert answered(batches, 32, '{"type":"ack","seq":32,"msgs":32}') == positions[:32]
    assert answered(batches, 96, '{"type":"ack","seq":96,"msgs":32}') == positions[32:96]
    assert not answered(batches, 64, '{"type":"ack","seq":64,"msgs":32}')
    assert answered(batches, 100, '{"stream":"EVENTS","seq":500,"batch":"me-7","count":100}') == positions[96:]


def test_a_repeated_answer_about_a_batch_that_has_ended_reports_nothing() -> None:
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
        pytest.param("", id="no responders"),
    ],
)
def test_every_other_answer_is_a_refusal_with_its_text(body: str) -> None:
    batches = begun(THREE)

    with pytest.raises(PublishRefused) as refused:
        batches.stored(f"{INBOX}.me-7.{FLOW}.fail.3.1.$FI".encode(), body.encode(), b"NATS/1.0 503\r\n\r\n")

    error = msgspec.json.decode(body).get("error") if body.startswith("{") else None
    assert (error["description"] if error else body or "503") in str(refused.value)


def test_a_full_stream_is_told_in_words_with_the_next_step() -> None:
    said = b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"EVENTS","seq":0}'

    with pytest.raises(PublishRefused) as refused:
        FastIngest(INBOX).stored(f"{INBOX}.7".encode(), said, b"")

    assert "{" not in str(refused.value)
    assert "maximum bytes exceeded (JetStream's error 10077). the stream is full" in str(refused.value)
    assert "nats stream edit EVENTS --max-bytes=" in str(refused.value)


# A real server --------------------------------------------------------------------------------------------------------


class Publisher:
    """Publishes batches into the stream, and collects the server's answers."""

    def __init__(self, nc: BrokerClient) -> None:
        self.answers = 0
        self._nc = nc
        self._inbox = nc.new_inbox()
        self._ingest = FastIngest(self._inbox)
        self._results: asyncio.Queue[Sequence[int] | PublishRefused] = asyncio.Queue()

    async def listen(self) -> None:
        await self._nc.listen(f"{self._inbox}.>", self._note)

    def _note(self, subject: bytes, _: bytes, body: bytes, raw_headers: bytes) -> None:
        self.answers += 1
        try:
            self._results.put_nowait(self._ingest.stored(subject, body, raw_headers))
        except PublishRefused as refused:
            self._results.put_nowait(refused)

    async def publish(self, positions: Sequence[int], *, but: int | None = None) -> None:
        """Send a batch of messages with these positions; the one at `but` gets lost on the way."""
        replies = self._ingest.replies(positions)
        await self._nc.send_all(
            ("point.charged.ann", b"{}", reply, f"{VERSION_LINE}\r\n{MSG_ID}: ann@{position}\r\n\r\n")
            for position, reply in zip(positions, replies, strict=True)
            if position != but
        )

    async def stored(self, count: int) -> list[int]:
        """The positions reported as stored, once there are `count`. Raises PublishRefused."""
        known: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(known) < count:
                result = await self._results.get()
                if isinstance(result, PublishRefused):
                    raise result
                known += result
        return known


@pytest.fixture
async def publisher(broker: Shop) -> AsyncIterator[Publisher]:
    async with session(broker) as js:
        publisher = Publisher(client(js))
        await publisher.listen()
        yield publisher


async def ids(broker: Shop) -> list[int]:
    """The positions of all messages in the stream, in its order."""
    async with session(broker) as js:
        last = (await js.stream_info(EVENTS)).state.last_seq
        found = [await js.get_msg(EVENTS, sequence, direct=True) for sequence in range(1, last + 1)]
    return [int((message.headers or {})[MSG_ID].removeprefix("ann@")) for message in found]


async def test_a_batch_takes_one_answer_per_flow_messages_and_two_more(publisher: Publisher) -> None:
    positions = range(1, 10 * FLOW + 2)

    await publisher.publish(positions)

    assert await publisher.stored(len(positions)) == list(positions)
    assert publisher.answers == 12


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([1, 2, 3], id="its beginning"),
        pytest.param([4, 5, 6], id="its middle"),
        pytest.param([8, 9, 10], id="its end"),
        pytest.param(range(1, 11), id="all of it"),
    ],
)
async def test_a_batch_with_messages_that_the_stream_already_has_is_refused_and_they_are_not_repeated(
    publisher: Publisher, broker: Shop, before: Sequence[int]
) -> None:
    await publisher.publish(before)
    await publisher.stored(len(before))

    await publisher.publish(range(11))

    with pytest.raises(PublishRefused, match="took facts of a batch for repeats"):
        await publisher.stored(11)
    assert sorted(await ids(broker)) == list(range(11))


async def test_behind_a_lost_message_nothing_of_the_batch_is_stored(publisher: Publisher, broker: Shop) -> None:
    await publisher.publish(range(1, 11), but=5)

    with pytest.raises(PublishRefused, match='"type":"gap","last_seq":5,"seq":6'):
        await publisher.stored(10)
    assert await ids(broker) == [1, 2, 3, 4]


async def test_a_batch_whose_beginning_got_lost_is_refused(publisher: Publisher, broker: Shop) -> None:
    await publisher.publish(range(1, 11), but=1)

    with pytest.raises(PublishRefused, match="batch publish ID unknown"):
        await publisher.stored(10)
    assert await ids(broker) == []


async def test_a_batch_that_was_broken_off_does_not_block_others(publisher: Publisher, broker: Shop) -> None:
    await publisher.publish(range(1, 11), but=10)  # the end: the server waits for it

    async with session(broker) as js:
        other = Publisher(client(js))
        await other.listen()
        await other.publish(range(1, 101))

        assert await other.stored(100) == list(range(1, 101))
    assert await ids(broker) == list(range(1, 101))


async def test_a_stream_that_accepts_no_batches_refuses_them(publisher: Publisher, broker: Shop) -> None:
    async with session(broker) as js:
        config = (await js.stream_info(EVENTS)).config
        config.allow_batched = False
        await js.update_stream(config)

    await publisher.publish(THREE)

    with pytest.raises(PublishRefused, match="batch publish is disabled"):
        await publisher.stored(3)
