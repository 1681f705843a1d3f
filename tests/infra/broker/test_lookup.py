"""The newest messages of a key: facts, foreign ones, or facts of newer code, without which no history is told."""

from collections.abc import Mapping
from typing import Any

import pytest

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION, encode, message_id
from infra.broker import lookup
from infra.broker.client import VERSION_LINE, BrokerClient
from infra.broker.errors import HistoryUnavailable
from infra.broker.leader import TRIES
from infra.broker.lookup import MOST_FACTS, _is_fact, latest_facts, latest_messages
from infra.broker.numbering import EVENTS
from infra.broker.stored import DirectAnswer, StoredMessage, direct
from infra.broker.streams import stream_config
from tests.examples import reserve_failed
from tests.infra.broker.mirroring import client, session, settings
from tests.shop import Shop

FACT = reserve_failed("product-unknown")
SUBJECT = f"product.reserve.failed.{FACT.order_id}"


def latest(body: bytes) -> StoredMessage:
    headers = {MSG_ID: message_id(FACT.stream, 1), STREAM: FACT.stream, VERSION: "1", POSITION: "1"}
    head = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    return StoredMessage(7, SUBJECT, body, f"{VERSION_LINE}{head}\r\n\r\n".encode(), 0)


def test_a_fact_of_newer_code_is_not_taken_for_a_foreign_message() -> None:
    body = encode(FACT)
    newer = body.replace(b"product-unknown", b"product-recalled")

    assert _is_fact(latest(body))
    assert not _is_fact(latest(body.replace(b'"order_id"', b'"x"')))
    with pytest.raises(HistoryUnavailable, match=f"{SUBJECT} at sequence 7: it is of newer code: "):
        _is_fact(latest(newer))


PLACE = {MSG_ID: message_id(FACT.stream, 1), STREAM: FACT.stream, VERSION: "1", POSITION: "1"}


@pytest.mark.parametrize("foreign", [1, MOST_FACTS + 5])
async def test_a_fact_is_found_among_any_number_of_foreign_messages(broker: Shop, foreign: int) -> None:
    async with session(broker) as js:
        for _ in range(foreign):
            await client(js).publish(SUBJECT, b"foreign")
        await js.publish(SUBJECT, encode(FACT), headers=PLACE)
        await js.publish(SUBJECT, b"foreign")

        assert await latest_facts(client(js), "order_id", FACT.order_id) == [FACT]
        (message,) = await latest_messages(client(js), [SUBJECT])
        assert message.body == encode(FACT)


async def test_foreign_messages_alone_are_no_message_of_a_service(broker: Shop) -> None:
    """However well their bodies look: they would end an order, or make a service answer."""
    async with session(broker) as js:
        await js.publish(SUBJECT, encode(FACT))

        assert await latest_messages(client(js), [SUBJECT]) == []
        assert await latest_facts(client(js), "order_id", FACT.order_id) == []


async def test_a_fact_is_found_in_an_earlier_generation_behind_a_foreign_message_in_the_newest(broker: Shop) -> None:
    async with session(broker) as js:
        await js.publish(SUBJECT, encode(FACT), headers=PLACE)
        await js.add_stream(stream_config(settings(broker), 1))
        await js.publish(f"l1.{SUBJECT}", b"foreign")

        found = await latest_messages(client(js), [SUBJECT], ["EVENTS_1", EVENTS])
        assert [message.body for message in found] == [encode(FACT)]


async def test_a_mirror_does_not_hide_the_fact_behind_a_foreign_message(
    broker: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror has the foreign message and lacks the fact: what it answers looks complete."""
    foreign = StoredMessage(9, SUBJECT, b"foreign", b"", 0)

    async def answered(_nc: object, stream: str, request: Mapping[str, Any]) -> DirectAnswer:
        by = stream if "multi_last" in request else "MIRROR"
        return DirectAnswer([foreign], frozenset({by}), 0, "204")

    monkeypatch.setattr(lookup, "direct", answered)
    async with session(broker) as js:
        with pytest.raises(HistoryUnavailable, match="a mirror answers"):
            await latest_facts(client(js), "order_id", FACT.order_id)


async def test_an_answer_that_is_not_whole_is_no_history(broker: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cut(_nc: object, stream: str, _request: object) -> DirectAnswer:
        return DirectAnswer([latest(encode(FACT))], frozenset({stream}), 3, "204")

    monkeypatch.setattr(lookup, "direct", cut)
    async with session(broker) as js:
        with pytest.raises(HistoryUnavailable, match="left 3 messages out"):
            await latest_messages(client(js), [SUBJECT])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The streams of the direct gets that look-ups make from now on."""
    asked: list[str] = []

    async def count(nc: BrokerClient, stream: str, request: Mapping[str, Any]) -> DirectAnswer:
        asked.append(stream)
        return await direct(nc, stream, request)

    monkeypatch.setattr(lookup, "direct", count)
    return asked


async def asked_in_two_generations(broker: Shop, first: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The streams that a second look-up of SUBJECT asks; the older one has a foreign message on the subject `first`."""
    async with session(broker) as js:
        await js.publish(first, b"foreign")
        await js.add_stream(stream_config(settings(broker), 1))
        await js.publish("l1.point.charged.ann", b"2")
        streams = ["EVENTS_1", EVENTS]
        assert await latest_messages(client(js), [SUBJECT], streams) == []
        asked = counted(monkeypatch)

        assert await latest_messages(client(js), [SUBJECT], streams) == []
        return sorted(asked)


async def test_a_generation_without_the_subject_is_asked_once(broker: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await asked_in_two_generations(broker, "point.charged.ann", monkeypatch) == [EVENTS, "EVENTS_1"]


async def test_only_generations_with_a_foreign_message_are_asked_for_the_fact_behind_it(
    broker: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await asked_in_two_generations(broker, SUBJECT, monkeypatch) == [EVENTS, EVENTS, "EVENTS_1"]


async def test_an_answer_without_messages_is_no_answer_of_a_generation_that_has_some(
    broker: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that has none of the subjects does not say that it is one."""
    mirrored: list[int] = []

    async def sometimes(nc: BrokerClient, stream: str, request: Mapping[str, Any]) -> DirectAnswer:
        if "multi_last" in request and mirrored:
            mirrored.pop()
            return DirectAnswer([], frozenset(), 0, "404")
        return await direct(nc, stream, request)

    monkeypatch.setattr(lookup, "direct", sometimes)
    async with session(broker) as js:
        await js.publish("point.charged.ann", b"1")
        await js.publish(SUBJECT, encode(FACT), headers=PLACE)

        mirrored[:] = range(TRIES - 1)
        assert len(await latest_messages(client(js), [SUBJECT])) == 1
        mirrored[:] = range(TRIES)
        with pytest.raises(HistoryUnavailable, match="a mirror answers"):
            await latest_messages(client(js), [SUBJECT])


async def test_an_empty_generation_has_nothing(broker: Shop) -> None:
    async with session(broker) as js:
        assert await latest_messages(client(js), [SUBJECT]) == []
