"""Streams that are usually new are assumed to be, without reading the store; the append proves it."""

from collections.abc import AsyncIterator

import pytest

from contracts import Fact
from infra.core.decider import Aggregate
from tests.infra.purse import (
    Acknowledgements,
    Charge,
    NothingToCharge,
    Purse,
    WatchedStore,
    balances,
    decide,
    evolve,
    issued,
)
from tests.infra.writing import Desk, working

USUALLY_NEW = {"account": Aggregate(Purse, decide, evolve, usually_new=True)}


@pytest.fixture
async def assuming(store: WatchedStore) -> AsyncIterator[Desk]:
    """A writer that has just started, so that no state is cached."""
    async with working(store, USUALLY_NEW) as desk:
        yield desk


async def test_the_store_is_not_read_for_a_stream_that_was_new(assuming: Desk) -> None:
    answer = await assuming.charge("ann", "ben", amount=5)

    assert balances(answer.states) == [5, 5]
    assert await assuming.log() == [("account-ann", 1), ("account-ben", 1)]
    assert assuming.store.selected == []


async def test_the_store_is_not_read_either_when_the_stream_is_used_again(assuming: Desk) -> None:
    await assuming.charge("ann", key="first")
    await assuming.charge("ann", key="second")

    assert await assuming.balance("ann") == 2
    assert assuming.store.selected == []


async def test_a_stream_that_was_not_new_is_decided_on_as_it_is(desk: Desk, assuming: Desk) -> None:
    await desk.charge("ann", amount=7, key="before")

    answer = await assuming.charge("ann", amount=1, key="after")

    assert balances(answer.states) == [8]
    assert await assuming.log() == [("account-ann", 1), ("account-ann", 2)]


async def test_what_was_answered_before_is_not_answered_again(desk: Desk, assuming: Desk) -> None:
    await desk.charge("ann", amount=7)

    answer = await assuming.charge("ann", amount=7)

    assert answer.facts == []
    assert balances(answer.states) == [7]
    assert await assuming.log() == [("account-ann", 1)]


async def test_a_decision_that_records_nothing_is_made_on_what_the_store_has(desk: Desk, assuming: Desk) -> None:
    """No append could show that the assumption was wrong."""
    await desk.charge("ann", amount=7)
    assuming.store.selected.clear()

    with pytest.raises(NothingToCharge):
        await assuming.charge("ann", amount=0)

    assert assuming.store.selected == [["account-ann"]]
    assert await assuming.balance("ann") == 7


async def test_one_wrong_assumption_makes_the_whole_batch_be_decided_again(desk: Desk, assuming: Desk) -> None:
    await desk.charge("ann", amount=7)
    assuming.published.clear()

    asked = [assuming.asking(user, amount=1, key="batch") for user in ("cas", "ann", "ben")]
    answers = [await task for task in asked]

    assert [balances(answer.states) for answer in answers] == [[1], [8], [1]]
    assert await assuming.log() == [("account-ann", 1), ("account-cas", 1), ("account-ann", 2), ("account-ben", 1)]
    assert len(assuming.published) == 3


async def test_a_wrong_assumption_does_not_evict_what_is_cached(desk: Desk, assuming: Desk) -> None:
    """A service that gets all of history again assumes wrongly in every batch, and a hot stream is long."""
    await desk.charge("ann", amount=7)
    await assuming.charge("ben", amount=1)
    assuming.store.selected.clear()

    answer = await assuming.charge("ann", "ben", amount=1, key="both")

    assert balances(answer.states) == [8, 2]
    assert assuming.store.selected == [["account-ann"]]


def only_used(command: Charge, *purses: Purse) -> list[Fact]:
    """Refuse to charge a purse that is new."""
    if not all(purse.keys for purse in purses):
        raise NothingToCharge
    return decide(command, *purses)


async def test_a_delivery_that_fails_on_an_assumption_is_decided_again(desk: Desk, store: WatchedStore) -> None:
    await desk.charge("ann", amount=7)
    aggregates = {"account": Aggregate(Purse, only_used, evolve, usually_new=True)}

    async with working(store, aggregates) as assuming:
        delivery = assuming.deliver(issued("ann"), acknowledgements := Acknowledgements())
        await acknowledgements.news.wait()

        assert (acknowledgements.acknowledged, acknowledgements.rejections) == ([delivery], [])
        assert await assuming.balance("ann") == 8
