"""Streams that are usually new are not asked for first; that they were new is proved by what is recorded on them."""

from collections.abc import AsyncIterator

import pytest

from infra.core.decider import Aggregate
from tests.infra.purse import NothingToCharge, Purse, WatchedStore, balances, decide, evolve
from tests.infra.writing import Desk, working

USUALLY_NEW = {"account": Aggregate(Purse, decide, evolve, usually_new=True)}


@pytest.fixture
async def guessing(store: WatchedStore) -> AsyncIterator[Desk]:
    """A writer that has just started, so that it has no head in memory."""
    async with working(store, USUALLY_NEW) as desk:
        yield desk


async def test_the_store_is_not_asked_for_a_stream_that_was_new(guessing: Desk) -> None:
    answer = await guessing.charge("ann", "ben", amount=5)

    assert balances(answer.states) == [5, 5]
    assert await guessing.log() == [("account-ann", 1), ("account-ben", 1)]
    assert guessing.store.asked_for == []


async def test_nor_when_it_is_met_again(guessing: Desk) -> None:
    await guessing.charge("ann", key="first")
    await guessing.charge("ann", key="second")

    assert await guessing.balance("ann") == 2
    assert guessing.store.asked_for == []


async def test_a_stream_that_was_not_new_is_decided_on_as_it_is(desk: Desk, guessing: Desk) -> None:
    await desk.charge("ann", amount=7, key="before")

    answer = await guessing.charge("ann", amount=1, key="after")

    assert balances(answer.states) == [8]
    assert await guessing.log() == [("account-ann", 1), ("account-ann", 2)]


async def test_what_was_answered_before_is_not_answered_again(desk: Desk, guessing: Desk) -> None:
    await desk.charge("ann", amount=7)

    answer = await guessing.charge("ann", amount=7)

    assert answer.facts == []
    assert balances(answer.states) == [7]
    assert await guessing.log() == [("account-ann", 1)]


async def test_a_decision_that_records_nothing_is_made_on_what_the_store_has(desk: Desk, guessing: Desk) -> None:
    """Nothing would be appended that could tell that the guess was wrong."""
    await desk.charge("ann", amount=7)
    guessing.store.asked_for.clear()

    with pytest.raises(NothingToCharge):
        await guessing.charge("ann", amount=0)

    assert guessing.store.asked_for == [["account-ann"]]
    assert await guessing.balance("ann") == 7


async def test_one_wrong_guess_of_a_batch_makes_all_of_it_be_decided_again(desk: Desk, guessing: Desk) -> None:
    await desk.charge("ann", amount=7)
    guessing.told.clear()

    asked = [guessing.asking(user, amount=1, key="batch") for user in ("cas", "ann", "ben")]
    answers = [await task for task in asked]

    assert [balances(answer.states) for answer in answers] == [[1], [8], [1]]
    assert await guessing.log() == [("account-ann", 1), ("account-cas", 1), ("account-ann", 2), ("account-ben", 1)]
    assert len(guessing.told) == 3


async def test_a_wrong_guess_does_not_cast_doubt_on_what_is_in_memory(desk: Desk, guessing: Desk) -> None:
    """Who hears all of history again guesses wrong in every batch, and a hot stream is long."""
    await desk.charge("ann", amount=7)
    await guessing.charge("ben", amount=1)
    guessing.store.asked_for.clear()

    answer = await guessing.charge("ann", "ben", amount=1, key="both")

    assert balances(answer.states) == [8, 2]
    assert guessing.store.asked_for == [["account-ann"]]
