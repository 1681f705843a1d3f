"""What an order waits for, and what may still come: computed from the reaction tables and the declared steps. Pure.

No service keeps it: what a service has to do follows from the facts that it hears and has not answered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from contracts.spans import ACCEPTED, CANCELED, CONFIRMED
from contracts.step import Step, Steps, fact_name
from contracts.wire import STEPS, said_by
from ops.flow.choreography import Act, Part
from ops.seen_facts import SeenFact
from order_svc.compensation import open_steps

DueKind = Literal["step", "compensation", "end"]


class Due(NamedTuple):
    """An answer that a service owes: it has to say the fact `says` because of the fact `hears`, both by name.

    `says` is the answer if all goes well, `what` the kind of its work. `since`: when the broker stored the fact that is
    heard; None: that fact is yet to come, too.
    """

    service: str
    hears: str
    says: str
    what: DueKind
    since: datetime | None = None

    @property
    def words(self) -> str:
        return f"{self.service}_svc to hear {self.hears} and to say {self.says}"


def due(facts: Sequence[SeenFact], parts: Sequence[Part], steps: Steps = STEPS) -> list[Due]:
    """Return the answers that services owe now to an order with these facts: at most one for each command.

    They are in the order of the facts that they answer. Empty if newer code canceled the order.
    """
    by_name = {fact.name: fact for fact in facts}
    answered = {(fact.service, fact.cause) for fact in facts}
    found: dict[tuple[str, str], Due] = {}
    for fact in facts:
        for part, act in _hearing(parts, fact.name):
            owed = _owed(part.service, act, by_name, steps)
            if owed is not None and (part.service, fact.fact_id) not in answered:
                says, what = owed
                found.setdefault((part.service, act.command), Due(part.service, fact.name, says, what, fact.stored))
    return list(found.values())


def _hearing(parts: Iterable[Part], fact: str) -> Iterator[tuple[Part, Act]]:
    return ((part, act) for part in parts for act in part.acts if fact in act.hears)


def _owed(service: str, act: Act, facts: Mapping[str, SeenFact], steps: Steps) -> tuple[str, DueKind] | None:
    """Return the name of the fact that this command still has to lead to, and its kind; None: none that is known here.

    `facts`: the order's, by name. Of an order that is over, a step that was not taken has to be fenced, not taken.
    """
    if canceled_by_newer_code(facts.values()):
        return None
    step = next((one for one in (*steps.awaited, *steps.following) if one.service == service), None)
    if step is not None and fact_name(step.undone) in act.says:
        if step not in opened(facts, steps):
            return None
        return fact_name(step.undone if fact_name(step.done) in facts else step.fenced), "compensation"
    if step is not None and fact_name(step.done) in act.says:
        answered = any(fact_name(fact) in facts for fact in step.says)
        return None if answered or step in opened(facts, steps) else (fact_name(step.done), "step")
    ends = [fact for fact in act.says if fact in (CONFIRMED, CANCELED)]
    if not ends or CONFIRMED in facts or CANCELED in facts:
        return None
    return ends[0], "end"


def opened(facts: Mapping[str, SeenFact], steps: Steps = STEPS) -> list[Step]:
    """Return the steps that have yet to be undone or fenced after the order's refusal or cancel; else an empty list.

    `facts`: the order's, by name. A refusal or cancel that this code cannot read gives an empty list, too.
    """
    refused = (fact_name(step.refused) for step in steps.awaited if step.refused is not None)
    ending = facts.get(CANCELED) or next((facts[name] for name in refused if name in facts), None)
    reason = getattr(ending.fact, "reason", None) if ending is not None else None
    return [] if reason is None else open_steps(reason, facts.keys(), steps)


def to_come(facts: Sequence[SeenFact], now_due: Sequence[Due], steps: Steps = STEPS) -> list[Due]:
    """Return all answers still to come if all goes well: those due now (`now_due`), and what follows, in order.

    After a cancel, or while a cancel or a compensation is due, return only those due now.
    """
    names = {fact.name for fact in facts}
    found = list(now_due)
    said = {one.says for one in found}
    if any(one.what == "compensation" for one in found) or CANCELED in names | said:
        return found
    last = fact_name(steps.awaited[-1].done) if steps.awaited else ACCEPTED
    way: list[Due] = [
        *_taken(steps.awaited),
        Due(said_by(CONFIRMED), last, CONFIRMED, "end"),
        *_taken(steps.following),
    ]
    for one in way:
        if one.hears in names | said and one.says not in names | said:
            found.append(one)
            said.add(one.says)
    return found


def _taken(steps: Iterable[Step]) -> list[Due]:
    return [Due(step.service, fact_name(step.hears), fact_name(step.done), "step") for step in steps]


def finished(facts: Sequence[SeenFact], now_due: Sequence[Due]) -> bool:
    """Return whether nothing more follows by itself: the order has ended, and nothing is due.

    Returns False, too, if newer code canceled the order: then what is due cannot be told here.
    """
    names = {fact.name for fact in facts}
    return not now_due and bool(names & {CONFIRMED, CANCELED}) and not canceled_by_newer_code(facts)


def canceled_by_newer_code(facts: Iterable[SeenFact]) -> bool:
    """Return whether one of the facts is a cancel that this code cannot read.

    Then this code cannot tell what has to be taken back.
    """
    return any(fact.name == CANCELED and fact.fact is None for fact in facts)
