"""A decision whose fact could not be published records nothing: its request is refused, its delivery rejected."""

import asyncio

import pytest

from contracts.wire import HEADER_BYTES
from infra.core.errors import TooLarge, Unpublishable
from infra.core.unit_of_work import Answer
from tests.infra.purse import Acknowledgements, issued
from tests.infra.writing import Desk

BAD_USERS = ["", "a b", "a.b", "*", "a\r\nNats-Rollup: all", "x" * 65]
LIMIT = 2_000


@pytest.mark.parametrize("user", BAD_USERS, ids=ascii)
async def test_a_request_for_what_cannot_be_published_is_refused_and_no_other(desk: Desk, user: str) -> None:
    ben, bad, cas = await asyncio.gather(
        desk.charge("ben"), desk.charge("ann", user), desk.charge("cas"), return_exceptions=True
    )

    assert type(bad) is Unpublishable
    assert "is no id" in str(bad)
    assert [type(answer) for answer in (ben, cas)] == [Answer, Answer]
    assert await desk.log() == [("account-ben", 1), ("account-cas", 1)]
    assert await desk.balance("ann") == 0


@pytest.mark.parametrize("user", BAD_USERS, ids=ascii)
async def test_a_delivery_that_leads_to_such_a_fact_is_rejected_and_others_are_handled(desk: Desk, user: str) -> None:
    acknowledger = Acknowledgements()
    good = issued("ann", coupon="c2")

    desk.deliver(issued(user), acknowledger, 1, "c1")
    desk.deliver(good, acknowledger, 2, "c2")
    await desk.writer.drained()

    ((rejected, error),) = acknowledger.rejections
    assert (rejected.key, type(error)) == ("c1", Unpublishable)
    assert await desk.log() == [("account-ann", 1)]
    assert [type(outcome) for outcome in await desk.writer.preview([rejected])] == [Unpublishable]


async def test_what_a_broker_does_not_take_is_not_recorded(desk: Desk) -> None:
    desk.writer.limit_facts(LIMIT)

    with pytest.raises(TooLarge, match="the broker takes 976"):
        await desk.charge("ann", key="k" * (LIMIT - HEADER_BYTES))
    await desk.charge("ann")

    assert await desk.log() == [("account-ann", 1)]


async def test_a_first_fact_leaves_room_for_what_follows_from_it(desk: Desk) -> None:
    """Every later fact of an order has all the order's lines again: an order that is accepted must be able to end."""
    desk.writer.limit_facts(LIMIT + HEADER_BYTES)
    large = "k" * (LIMIT - 200)

    with pytest.raises(TooLarge, match="too little for what follows"):
        await desk.charge("ann", key=large)
    await desk.charge("ann")
    await desk.charge("ann", key=large)

    assert await desk.log() == [("account-ann", 1), ("account-ann", 2)]
