"""The recorded history gives the same decisions, and it has everything that can happen."""

from contracts import REASONS
from contracts.wire import FACTS, NAMES, decode, said_by
from ops.what_if.command import codes
from ops.what_if.difference import id_of
from tests.what_if.recorded import FILE, logs_of, recorded, verdict

MOST_BYTES = 400_000


async def test_it_gives_the_same_decisions() -> None:
    report = await verdict(await logs_of(recorded()))

    assert report.differences == []
    assert report.total("decisions") > 250
    assert report.total("asked") > 300
    assert (report.total("open"), report.total("unjudged")) == (0, 0)


async def test_it_has_every_fact_every_reason_and_every_reaction_of_every_service() -> None:
    logs = await logs_of(recorded())
    facts = {id_of(record): decode(record.state) for log in logs.values() for record in log}
    answered = {
        (name, NAMES[type(facts[cause])])
        for name, log in logs.items()
        for record in log
        if (cause := facts[id_of(record)].cause) is not None
    }

    assert {NAMES[type(fact)] for fact in facts.values()} == {
        name for name, fact in FACTS.items() if said_by(name) in logs and not fact.implied
    }
    assert {reason for fact in facts.values() if (reason := getattr(fact, "reason", None))} == set(REASONS)
    reactions = {(code.name, NAMES[fact]) for code in codes() if code.name in logs for fact in code.reactions}
    assert answered - reactions == {("order", "order.created.pending")}, "the deadlines' timer"
    assert answered >= reactions


async def test_it_was_recorded_before_answers_had_streams_of_their_own() -> None:
    """So it also holds the working tree's code against what older code recorded."""
    logs = await logs_of(recorded())
    moved = [fact for log in logs.values() for record in log if (fact := decode(record.state)).stream != record[1]]

    assert {type(fact).__name__ for fact in moved} >= {"PointUsed", "PointCharged", "CouponUsed", "ProductStockAdded"}


async def test_it_stays_small() -> None:
    assert FILE.stat().st_size < MOST_BYTES
