"""Marks tell whether the stream still holds what was heard, and from where on it does not."""

import pytest
from nats.js import JetStreamContext

from contracts.wire import MSG_ID
from infra.marks import KEPT, Marks
from tests.infra.mirroring import session
from tests.shop import Shop


async def publish(js: JetStreamContext, *fact_ids: str) -> None:
    for fact_id in fact_ids:
        await js.publish("point.charged.ann", b"{}", headers={MSG_ID: fact_id})


def marks_of(*fact_ids: str) -> Marks:
    """These facts were heard at the sequences 1, 2, 3, ..."""
    marks = Marks()
    for sequence, fact_id in enumerate(fact_ids, 1):
        marks.add(sequence, fact_id)
    return marks


async def test_a_stream_that_holds_all_that_was_heard_has_lost_nothing(broker: Shop) -> None:
    async with session(broker) as js:
        assert await Marks().lost_after(js) is None
        await publish(js, "a@1", "a@2", "a@3")
        assert await marks_of("a@1", "a@2", "a@3").lost_after(js) is None
        assert await marks_of("a@1", "a@2").lost_after(js) is None


@pytest.mark.parametrize("kept", range(6))
async def test_the_last_place_that_holds_what_was_heard_is_found(kept: int, broker: Shop) -> None:
    heard = [f"a@{n}" for n in range(1, 7)]
    async with session(broker) as js:
        await publish(js, *heard[:kept], *(f"b@{n}" for n in range(1, 4)))
        marks = marks_of(*heard)

        assert await marks.lost_after(js) == kept
        # A session that failed before its consumer went back leaves the next one to find the same place.
        assert await marks.lost_after(js) == kept
        marks.forget_after(kept)
        assert await marks.lost_after(js) is None


async def test_marks_are_bounded(broker: Shop) -> None:
    async with session(broker) as js:
        await publish(js, "a@1")
        marks = marks_of("a@1", *(f"x@{n}" for n in range(KEPT)))
        assert await marks.lost_after(js) == 0
