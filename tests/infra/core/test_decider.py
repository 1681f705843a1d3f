"""A batch decides on forks: no reader sees any of it before its transaction is recorded."""

import pytest
from msgspec import Struct, field

from contracts import PointDeposited
from contracts.wire import encode
from infra.core.decider import Batch, StreamState, fork
from infra.core.errors import FoldError
from infra.store.records import Record
from tests.infra.purse import AGGREGATES, NOON, Charge, NothingToCharge, Purse


def states(**versions: int) -> dict[str, StreamState]:
    """The state of each of these users' purses, at that version and with as much in it."""
    return {f"account-{user}": StreamState(version, Purse(version, set())) for user, version in versions.items()}


def charged(user: str, amount: int, key: str = "first") -> PointDeposited:
    return PointDeposited(at=NOON, user_id=user, points=amount, idempotency_key=key)


def test_a_command_is_decided_over_the_states_of_its_streams() -> None:
    batch = Batch(AGGREGATES, states(ann=0, ben=0))

    facts = batch.decide(Charge(("ann", "ben"), 5))

    assert facts == [charged("ann", 5), charged("ben", 5)]
    assert batch.facts == facts


def test_each_command_sees_what_those_before_it_would_leave() -> None:
    batch = Batch(AGGREGATES, states(ann=0))

    batch.decide(Charge(("ann",), 5))
    again = batch.decide(Charge(("ann",), 5))
    batch.decide(Charge(("ann",), 2, "second"))

    assert again == []
    (state,) = batch.states(["account-ann"])
    assert state == Purse(7, {"first", "second"})


def test_records_continue_from_the_states_version_in_the_order_of_the_decisions() -> None:
    batch = Batch(AGGREGATES, states(ann=7, ben=0))

    batch.decide(Charge(("ben",), 1))
    batch.decide(Charge(("ann", "ben"), 2, "second"))

    assert batch.records == [
        Record("account-ben", 1, "point.deposited", encode(charged("ben", 1))),
        Record("account-ann", 8, "point.deposited", encode(charged("ann", 2, "second"))),
        Record("account-ben", 2, "point.deposited", encode(charged("ben", 2, "second"))),
    ]


def test_committed_states_are_not_written_to() -> None:
    committed = states(ann=3)

    Batch(AGGREGATES, committed).decide(Charge(("ann",), 5))

    assert (committed["account-ann"].version, committed["account-ann"].state) == (3, Purse(3, set()))


def test_a_stream_without_new_facts_is_not_forked() -> None:
    batch = Batch(AGGREGATES, states(ann=0, ben=0))

    batch.decide(Charge(("ann",), 5))

    assert set(batch.forks) == {"account-ann"}


def test_a_command_that_should_not_have_been_made_leaves_the_batch_as_it_was() -> None:
    batch = Batch(AGGREGATES, states(ann=0))
    batch.decide(Charge(("ann",), 5))

    with pytest.raises(NothingToCharge):
        batch.decide(Charge(("ann",), 0, "second"))

    assert [record.originator_version for record in batch.records] == [1]
    assert batch.states(["account-ann"]) == [Purse(5, {"first"})]


def test_a_fact_that_cannot_be_folded_names_its_stream_and_itself() -> None:
    batch = Batch(AGGREGATES, states(ann=0))

    with pytest.raises(FoldError, match=r"account-ann: PointDeposited\(.*points=13"):
        batch.decide(Charge(("ann",), 13))


class Pockets(Struct):
    coins: list[int] = field(default_factory=list)
    tickets: set[str] = field(default_factory=set)
    notes: dict[str, int] = field(default_factory=dict)
    owner: str = "ann"


def test_a_fork_shares_nothing_that_the_fold_could_write_to() -> None:
    original = Pockets([1], {"bus"}, {"rent": 1})

    copy = fork(original)
    copy.coins.append(2)
    copy.tickets.add("train")
    copy.notes["food"] = 2
    copy.owner = "ben"

    assert original == Pockets([1], {"bus"}, {"rent": 1}, "ann")
    assert copy == Pockets([1, 2], {"bus", "train"}, {"rent": 1, "food": 2}, "ben")
