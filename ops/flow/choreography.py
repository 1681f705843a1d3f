"""The flow as data: which service hears, does and may say what; and the findings about the flow."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from contracts.wire import said_by


class StepFacts(NamedTuple):
    """A step that a service declares, by the names of its facts; the fields mean what they mean in contracts.step.Step.

    `refused`: an empty text if the step cannot refuse.
    """

    service: str
    hears: str
    done: str
    undone: str
    fenced: str
    refused: str = ""


class Rules(NamedTuple):
    """The declarations of the flow in contracts/, by the names of the facts."""

    facts: Collection[str]
    """The names of all facts that contracts/ declares."""
    steps: Sequence[StepFacts]
    compensations: Collection[str]
    """The facts by which a step takes back what it did."""
    withdrawals: Collection[str] = ("order.canceled",)
    """The facts after which all steps undo their part."""
    by_client: Collection[str] = ()
    """The facts that a client's request may cause: only these may have no fact as their cause."""

    @property
    def failures(self) -> tuple[str, ...]:
        """The refusals: after one, the steps that were done before it undo their part."""
        return tuple(step.refused for step in self.steps if step.refused)


class Act(NamedTuple):
    """One command of a service, with facts by their names.

    `hears`: the facts that REACTIONS maps to the command. `takes`: the facts that its field `fact` may hold. Both
    should be the same; they are empty for a command of a client or of the clock. `says`: the facts that the command may
    lead to.
    """

    command: str
    hears: tuple[str, ...]
    takes: tuple[str, ...]
    says: tuple[str, ...]


class Part(NamedTuple):
    """A service's part in the flow: its commands, and `folds`, the facts that its aggregates fold.

    `unmatched`: facts that REACTIONS maps to something that is not a command of the service's aggregates.
    """

    service: str
    acts: tuple[Act, ...]
    folds: frozenset[str]
    unmatched: tuple[str, ...] = ()


def findings(parts: Sequence[Part], rules: Rules) -> list[str]:
    """Check the flow against the rules; return the findings, one sentence each, each once."""
    flow = _Flow(parts, rules)
    found = [
        *_cycles(flow),
        *_unsaid(flow, rules.facts),
        *_misheard(flow),
        *_not_as_declared(flow),
        *_without_cause(flow),
        *_uncompensated(flow),
        *_not_withdrawn(flow),
    ]
    return list(dict.fromkeys(found))


class _Flow:
    """The parts as a graph of the names of facts.

    `next` maps each fact that is heard to the facts that it may lead to directly; `previous` is the inverse.
    """

    def __init__(self, parts: Sequence[Part], rules: Rules) -> None:
        self.parts = parts
        self.rules = rules
        self.compensations = frozenset(rules.compensations)
        self.acts = [(part.service, act) for part in parts for act in part.acts]
        self.said = list(dict.fromkeys(fact for _, act in self.acts for fact in act.says))
        self.next: dict[str, list[str]] = {}
        self.previous: dict[str, list[str]] = {}
        for _, act in self.acts:
            for heard in act.hears:
                for fact in act.says:
                    self.next.setdefault(heard, []).append(fact)
                    self.previous.setdefault(fact, []).append(heard)

    def before(self, facts: Iterable[str]) -> set[str]:
        """Return all facts that may have led to these, directly or through others."""
        return _reached(facts, self.previous)

    def after(self, facts: Iterable[str]) -> set[str]:
        """Return all facts that these may lead to, directly or through others."""
        return _reached(facts, self.next)

    def saying(self, facts: Collection[str]) -> list[tuple[str, Act, str]]:
        """Return (service, act, fact) for each act that may say one of these facts.

        If an act may say several of them, `fact` is the first in `act.says`.
        """
        said = [(service, act, [fact for fact in act.says if fact in facts]) for service, act in self.acts]
        return [(service, act, these[0]) for service, act, these in said if these]

    def hearing(self, service: str, fact: str) -> list[Act]:
        """Return the service's acts that hear this fact or may say it."""
        return [act for name, act in self.acts if name == service and fact in {*act.hears, *act.says}]

    def undoes(self, act: Act) -> bool:
        return not self.compensations.isdisjoint(act.says)


def _reached(start: Iterable[str], arrows: Mapping[str, Iterable[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = list(start)
    while waiting:
        new = set(arrows.get(waiting.pop(), ())) - reached
        reached |= new
        waiting += new
    return reached


# Cycles ---------------------------------------------------------------------------------------------------------------


def _cycles(flow: _Flow) -> Iterator[str]:
    """Yield a finding for the shortest cycle through each fact that may lead to itself, each cycle once."""
    told: set[frozenset[str]] = set()
    for fact in flow.said:
        way = _way_back(flow, fact)
        if way and frozenset(way) not in told:
            told.add(frozenset(way))
            yield f"a cycle that need not end: {' → '.join(f'`{name}`' for name in [*way, fact])}"


def _way_back(flow: _Flow, fact: str) -> list[str]:
    """Return the facts of the shortest cycle through `fact`, beginning with `fact`; empty if there is no cycle."""
    ways, seen = [[fact]], {fact}
    for way in ways:
        for name in flow.next.get(way[-1], ()):
            if name == fact:
                return way
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []


# Facts ----------------------------------------------------------------------------------------------------------------


def _unsaid(flow: _Flow, facts: Collection[str]) -> Iterator[str]:
    for fact in dict.fromkeys([*facts, *(heard for _, act in flow.acts for heard in act.hears)]):
        if fact not in flow.said:
            hearers = [f"{service}_svc" for service, act in flow.acts if fact in act.hears]
            yield f"no service says `{fact}`" + (f", but {' and '.join(hearers)} would hear it" if hearers else "")
    folds = {part.service: part.folds for part in flow.parts}
    for service, act in flow.acts:
        if not act.says:
            yield f"{_of(service, act)} says nothing: list in its `says` the facts that it may lead to"
        for fact in act.says:
            if fact not in facts:
                yield f"{_of(service, act)} says `{fact}`, which contracts/ does not declare"
            elif said_by(fact) != service:
                yield f"{_of(service, act)} says `{fact}`, which by its name only {said_by(fact)}_svc may say"
            elif fact not in folds[service]:
                yield f"{_of(service, act)} says `{fact}`, which no aggregate of {service}_svc folds"


def _misheard(flow: _Flow) -> Iterator[str]:
    """Yield a finding for each mismatch between a service's REACTIONS and what its commands take.

    A fact that does not reach its command leaves its order without an end.
    """
    for part in flow.parts:
        for fact in part.unmatched:
            yield f"{part.service}_svc hears `{fact}`, but REACTIONS maps it to no command of its aggregates"
        for act in part.acts:
            for fact in act.takes:
                if fact not in act.hears:
                    yield f"{_of(part.service, act)} takes `{fact}`, but REACTIONS has no entry for it"
            for fact in act.hears:
                if fact not in act.takes:
                    yield f"{_of(part.service, act)} does not take `{fact}`, but REACTIONS maps it to this command"


def _not_as_declared(flow: _Flow) -> Iterator[str]:
    """Yield a finding for each `done` or `refused` of a step that no command of its service says after its `hears`."""
    for step in flow.rules.steps:
        acts = [act for service, act in flow.acts if service == step.service and step.hears in {*act.hears, *act.takes}]
        may_come = {fact for act in acts for fact in act.says}
        for fact in (step.done, step.refused):
            if fact and fact not in may_come:
                yield f"{step.service}_svc declares that it says `{fact}` after `{step.hears}`; no command of it does"


def _without_cause(flow: _Flow) -> Iterator[str]:
    for service, act in flow.acts:
        for fact in act.says:
            if not act.takes and not act.hears and fact in flow.rules.facts and fact not in flow.rules.by_client:
                yield f"{_of(service, act)} answers no fact, so `{fact}` needs `by_client` in contracts/{service}.py"


def _of(service: str, act: Act) -> str:
    return f"{service}_svc.{act.command}"


# Compensations --------------------------------------------------------------------------------------------------------


def _uncompensated(flow: _Flow) -> Iterator[str]:
    for failure in flow.said:
        if failure in flow.rules.failures:
            before = flow.before([failure])
            for service, act, said in flow.saying(before):
                if act.takes:
                    yield from _not_undone(flow, service, failure, f"may have said `{said}`")
                elif not flow.hearing(service, failure):
                    yield f"{service}_svc does not react to `{failure}`, so what it began with `{said}` never ends"
            for service, said in _beside(flow, failure, before):
                yield from _not_undone(flow, service, failure, f"may say `{said}` at the same time")


def _beside(flow: _Flow, failure: str, before: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (service, fact) for each act on a branch parallel to this failure; `fact` is the first that it may say.

    `before`: the facts that may have led to the failure. Acts that undo are left out, and services without a
    compensation: their steps leave nothing to undo, such as an e-mail to the customer.
    """
    starts = [
        fact
        for _, act in flow.acts
        if not before.isdisjoint(act.hears) and {*before, failure}.isdisjoint(act.says)
        for fact in act.says
    ]
    able = {service for service, act in flow.acts if flow.undoes(act)}
    for service, act, said in flow.saying({*starts, *flow.after(starts)}):
        if service in able and not flow.undoes(act):
            yield service, said


def _not_withdrawn(flow: _Flow) -> Iterator[str]:
    """Yield a finding for each service that has to take its part back after a withdrawal, but does not.

    Services with a compensation have to, and so have the services whose facts the withdrawing service waits for.
    """
    able = {service: f"has a compensation ({act.command})" for service, act in flow.acts if flow.undoes(act)}
    for withdrawal in flow.said:
        if withdrawal in flow.rules.withdrawals:
            withdrawing = {service for service, _, _ in flow.saying([withdrawal])}
            own = [fact for service, act in flow.acts if service in withdrawing for fact in act.says]
            steps = flow.saying(flow.before(own))
            awaited = {
                service: f"says `{said}`, which is waited for,"
                for service, act, said in steps
                if act.takes and service not in withdrawing
            }
            for service, why in {**able, **awaited}.items():
                yield from _not_undone(flow, service, withdrawal, why)


def _not_undone(flow: _Flow, service: str, fact: str, why: str) -> Iterator[str]:
    acts = flow.hearing(service, fact)
    if not acts:
        yield f"{service}_svc {why} but does not react to `{fact}`"
    elif not any(map(flow.undoes, acts)):
        does = " or ".join(act.command for act in acts)
        yield f"{service}_svc {why} but takes nothing back after `{fact}`: it only does {does}"
