"""All that the page of one order shows, from its facts, the reaction tables and the newest snapshot. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from contracts.newer import NEXT_STEP
from contracts.spans import ACCEPTED, CANCELED, CONFIRMED
from contracts.wire import COMPENSATIONS, SERVICES
from infra.broker.consumers import consumer_name
from infra.consuming.dead_letter import DeadLetter
from infra.core.decider import Aggregates, category
from ops.at import shown_state
from ops.dashboard.lifelines import Drawing, FactRow, Hearer, draw
from ops.dashboard.poller import STEPS_TAKEN, Snapshot
from ops.dashboard.to_copy import commands
from ops.details import HeadingLine, heading
from ops.flow.choreography import Part
from ops.seen_facts import SeenFact
from ops.status.concern import duration
from ops.status.figures import buckets_since, quantile
from ops.status.seen import Samples
from ops.trace import STOPPING
from ops.waits import Due, canceled_by_newer_code, due, finished, to_come


class FlowTables(NamedTuple):
    """What the code of this checkout says of the flow: each service's part in it, and its aggregates by category."""

    parts: Sequence[Part]
    aggregates: Aggregates

    def hearers(self, fact: str) -> list[str]:
        """Return the services that hear the facts of this name."""
        return [part.service for part in self.parts if any(fact in act.hears for act in part.acts)]


class ShownWait(NamedTuple):
    """An answer that the order waits for. `usual`: how long it usually takes, in words; empty: not known.

    `state`: how the service that owes the answer is, in words. `troubled`: whether something there needs attention.
    """

    due: Due
    usual: str
    state: str
    troubled: bool


class Change(NamedTuple):
    """A field of a state that a fact has changed: its value before and after, None: it had none."""

    field: str
    before: Any
    after: Any


class ShownFact(NamedTuple):
    """A fact on the page, `ms` milliseconds after the order's first.

    `hops`: None without a `cause` on the page, or if it is not known when the stream first had the cause.

    `changes`: the fields of its aggregate's state that it changed. `kind`: its CSS class, see the function `kind`.
    `faded`: it is after the cut (see Scrubber). `commands`: commands that show more of it.
    """

    fact: SeenFact
    ms: float
    cause: SeenFact | None
    effects: Sequence[SeenFact]
    hops: "Hops | None"
    changes: Sequence[Change]
    kind: str
    faded: bool
    commands: Sequence[str] = ()


class Hops(NamedTuple):
    """Where the time between a fact's cause and the fact went, in milliseconds.

    `into_stream_ms`: from the record of the cause to its storing in the stream; `from_stream_ms`: from there to the
    record of the fact; a negative time counts as 0. `share`: the sum of both, in percent of the largest such sum among
    the order's facts; `first`: `into_stream_ms` in percent of the same.
    """

    into_stream_ms: float
    from_stream_ms: float
    share: float = 0.0
    first: float = 0.0


class ServiceState(NamedTuple):
    """The state of one aggregate's stream of the order at the cut (see Scrubber), as its service folds it.

    `fields`: its fields by name, with their values.
    """

    service: str
    stream: str
    fields: Mapping[str, Any]


class Scrubber(NamedTuple):
    """The cut, which is the moment that the page shows: after the first `number` of the order's `most` facts.

    `places`: `first`, `previous`, `next` or `last` → the place, such as `order@2`, of the last fact of that moment;
    None: the moment with all facts.
    """

    number: int
    most: int
    places: Mapping[str, str | None]


class ShownOrder(NamedTuple):
    """What the page of an order shows. `status`: in words; `heading`: the order itself, in lines.

    `deadline` None: the fact of its acceptance is not known here. `over`: it has ended, and no answer is owed; False,
    too, if newer code canceled it. `waits`: what is owed now; `pending`: what is owed now, and what follows from that
    if all goes well. The dead letters are the order's, without those not asked for or not readable. `sequence`:
    the largest sequence of the facts; 0: all are from logs. `trouble`: see KnownFacts. `trace`: the URL of the
    order's trace; empty: DASHBOARD_TRACE_URL is not set.
    """

    order_id: str
    status: str
    heading: Sequence[HeadingLine]
    deadline: datetime | None
    waits: Sequence[ShownWait]
    over: bool
    drawing: Drawing
    pending: Sequence[Due]
    facts: Sequence[ShownFact]
    states: Sequence[ServiceState]
    scrubber: Scrubber
    letters: Sequence[DeadLetter]
    sequence: int
    trouble: str = ""
    trace: str = ""


def order_page(
    order_id: str,
    facts: Sequence[SeenFact],
    tables: FlowTables,
    seen: Snapshot | None,
    *,
    letters: Sequence[DeadLetter] = (),
    at: str = "",
    trouble: str = "",
    generations: Sequence[int] = (),
) -> ShownOrder:
    """Return what the page of an order shows, without its trace. `facts`: as in KnownFacts, at least one.

    `seen`: the newest snapshot; None: there is none yet. `at`: the place of the last fact up to which states are
    folded, such as `order@2`; another text: all facts. `generations`: those that the broker has; empty: not known.
    """
    now_due = due(facts, tables.parts)
    cut = next((number for number, fact in enumerate(facts, 1) if fact.place == at), len(facts))
    decoded = [fact.fact for fact in facts if fact.fact is not None]
    pending = to_come(facts, now_due)
    changes, states = _states(facts, cut, tables.aggregates)
    return ShownOrder(
        order_id,
        status(facts, now_due),
        heading(order_id, decoded),
        next((getattr(fact.fact, "deadline", None) for fact in facts if fact.name == ACCEPTED), None),
        [_wait(one, seen, letters) for one in now_due],
        finished(facts, now_due),
        draw([*_rows(facts, cut, now_due, tables), *map(_pending_row, pending)], SERVICES),
        pending,
        [
            one._replace(commands=commands(one.fact, tables.aggregates, generations))
            for one in _shown(facts, cut, changes)
        ],
        states,
        _scrubber(facts, cut),
        letters,
        max(fact.sequence for fact in facts),
        trouble,
    )


def status(facts: Sequence[SeenFact], now_due: Sequence[Due]) -> str:
    """Return the order's status in words, such as `pending` or `canceled and compensated`.

    `now_due`: the answers that are owed to the order now.
    """
    names = {fact.name for fact in facts}
    if canceled_by_newer_code(facts):
        return f"canceled by newer code, so what has to be taken back is not known here: {NEXT_STEP}"
    if CANCELED in names:
        return "canceled, not compensated yet" if now_due else "canceled and compensated"
    return "confirmed" if CONFIRMED in names else "pending"


# What it waits for ----------------------------------------------------------------------------------------------------


def _wait(one: Due, seen: Snapshot | None, letters: Sequence[DeadLetter]) -> ShownWait:
    waiting = sum(letter.consumer == one.service for letter in letters)
    has = f"; {waiting} dead letter{'s' if waiting > 1 else ''} of this order" if waiting else ""
    service = None if seen is None else next((s for s in seen.look.services if s.service.name == one.service), None)
    if seen is None or service is None:
        return ShownWait(one, "", f"not asked yet{has}", troubled=bool(waiting))
    usually = usual(one, service.samples) or usual(one, seen.usual.get(one.service, Samples()))
    if service.trouble or service.not_ready:
        return ShownWait(one, usually, f"{service.trouble or f'not ready: {service.not_ready}'}{has}", troubled=True)
    if not service.measured:
        return ShownWait(one, usually, f"ready; {service.unmeasured}{has}", troubled=True)
    lag_s = service.samples.largest("saga_consumer_lag_seconds", consumer=consumer_name(one.service, one.hears))
    lag = f"hears {one.hears} {duration(lag_s)} late" if lag_s else f"has heard every {one.hears}"
    return ShownWait(one, usually, f"ready, {lag}{has}", troubled=bool(waiting))


def usual(one: Due, samples: Samples) -> str:
    """Return in words how long an answer like `one` usually takes; empty if `samples` have none of its kind.

    `samples`: the numbers of the service that owes the answer.
    """
    buckets = buckets_since(Samples(), samples, STEPS_TAKEN, fact=one.says)
    half, most = quantile(buckets, 0.5), quantile(buckets, 0.99)
    return "" if half is None or most is None else f"usually {duration(half)}, 99 % within {duration(most)}"


# The picture ----------------------------------------------------------------------------------------------------------


def _rows(facts: Sequence[SeenFact], cut: int, now_due: Sequence[Due], tables: FlowTables) -> list[FactRow]:
    answers = {(fact.service, fact.cause) for fact in facts}
    owed = {(one.service, one.hears) for one in now_due}
    first = facts[0].at

    def arrow(fact: SeenFact, service: str) -> Hearer:
        if (service, fact.fact_id) in answers:
            return Hearer(service, "answered")
        return Hearer(service, "due" if (service, fact.name) in owed else "quiet")

    return [
        FactRow(
            fact.name,
            fact.service,
            [arrow(fact, service) for service in tables.hearers(fact.name)],
            f"{kind(fact.name)} {'' if number < cut else 'faded'}".strip(),
            _since(first, fact.at),
            f"?at={fact.place}",
        )
        for number, fact in enumerate(facts)
    ]


def _pending_row(one: Due) -> FactRow:
    return FactRow(one.says, one.service, (), f"pending {kind(one.says)}".strip(), "due" if one.since else "then")


def kind(name: str) -> str:
    """Return the CSS class of facts of this name: `undone` for a compensation; `stopped` for a refusal, a fence or a
    cancel; else empty."""
    return "undone" if name in COMPENSATIONS else "stopped" if name in STOPPING else ""


def _since(first: datetime, at: datetime) -> str:
    ms = (at - first).total_seconds() * 1_000
    return f"{ms:,.1f} ms" if ms < 10_000 else f"{ms / 1_000:,.1f} s"


# Facts and states -----------------------------------------------------------------------------------------------------


def _shown(facts: Sequence[SeenFact], cut: int, changes: Mapping[str, Sequence[Change]]) -> list[ShownFact]:
    by_id = {fact.fact_id: fact for fact in facts}
    hops = {fact.fact_id: _hops(fact, by_id.get(fact.cause or "")) for fact in facts}
    longest = max((one.into_stream_ms + one.from_stream_ms for one in hops.values() if one), default=0.0) or 1.0
    return [
        ShownFact(
            fact,
            (fact.at - facts[0].at).total_seconds() * 1_000,
            by_id.get(fact.cause or ""),
            [other for other in facts if other.cause == fact.fact_id],
            _scaled(hops[fact.fact_id], longest),
            changes.get(fact.fact_id, ()),
            kind(fact.name),
            number >= cut,
        )
        for number, fact in enumerate(facts)
    ]


def _hops(fact: SeenFact, cause: SeenFact | None) -> Hops | None:
    if cause is None or not cause.sequence or cause.resent:
        return None
    into = (cause.stored - cause.at).total_seconds() * 1_000
    from_there = (fact.at - cause.stored).total_seconds() * 1_000
    return Hops(max(0.0, into), max(0.0, from_there))


def _scaled(hops: Hops | None, longest: float) -> Hops | None:
    if hops is None:
        return None
    whole = (hops.into_stream_ms + hops.from_stream_ms) / longest * 100
    return hops._replace(share=round(whole, 1), first=round(hops.into_stream_ms / longest * 100, 1))


def _states(
    facts: Sequence[SeenFact], cut: int, aggregates: Aggregates
) -> tuple[dict[str, list[Change]], list[ServiceState]]:
    """Fold the facts with the services' own code. Return fact id → what it changed; and the states at the cut.

    `cut`: after so many facts. A fact that older code recorded in another stream is folded where it belongs today.
    """
    changes: dict[str, list[Change]] = {}
    states: dict[str, Any] = {}
    shown: dict[str, ServiceState] = {}
    for number, fact in enumerate(facts):
        aggregate = None if fact.fact is None else aggregates.get(category(fact.fact.stream))
        if fact.fact is None or aggregate is None:
            continue
        stream = fact.fact.stream
        state = states.setdefault(stream, aggregate.state())
        before = _fields(state)
        aggregate.evolve(state, fact.fact)
        after = _fields(state)
        changes[fact.fact_id] = [
            Change(name, before.get(name), after.get(name))
            for name in {**before, **after}
            if before.get(name) != after.get(name)
        ]
        if number < cut:
            shown[stream] = ServiceState(fact.service, stream, after)
    return changes, sorted(shown.values(), key=_column)


def _fields(state: Any) -> dict[str, Any]:
    """Return the fields of a state by name, as `shown_state` does; but its own datetimes stay datetimes."""
    times = {name: held for name in shown_state(state) if isinstance(held := getattr(state, name, None), datetime)}
    return shown_state(state) | times


def _column(one: ServiceState) -> tuple[int, str]:
    return (SERVICES.index(one.service) if one.service in SERVICES else len(SERVICES)), one.stream


def _scrubber(facts: Sequence[SeenFact], cut: int) -> Scrubber:
    places = [fact.place for fact in facts]
    return Scrubber(
        cut,
        len(facts),
        {
            "first": places[0],
            "previous": places[max(0, cut - 2)],
            "next": places[cut] if cut < len(places) - 1 else None,
            "last": None,
        },
    )
