"""Judges one service's log: makes each decision again, then folds what was recorded."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from contracts.fact import DECODE_ERRORS, Fact
from contracts.newer import OfNewerCode
from contracts.wire import NAMES, decode, said_by
from infra.core.decider import Aggregates, StreamState, category
from infra.core.writer import Reactions
from infra.store.records import Notification
from ops.what_if.difference import (
    DecidedFact,
    Difference,
    DifferenceKind,
    as_recorded,
    changed,
    describe,
    id_of,
    said,
    same,
)


class Code(NamedTuple):
    """A service of the working tree: its name, its aggregates, and its reactions (type of fact → command)."""

    name: str
    aggregates: Aggregates
    reactions: Reactions


class DecisionCounts(msgspec.Struct):
    """The counts of one service.

    `decisions`: made again, or tried: `fails` and `not-heard` count. `differences`: of all kinds but `newer`. `given`:
    records without a readable cause, or caused by the service's own timer. `asked`: heard facts that were decided once
    more over the end of the log. `open`: facts of `asked` that would get an answer, and are newer than every fact that
    the service answered. `unjudged`: decisions not made again, because a stream, a record or the cause cannot be read.
    A decision whose cause is missing counts in `differences` alone.
    `newer`: records of newer code, which are no difference; from there on their streams cannot be read.
    """

    decisions: int = 0
    differences: int = 0
    given: int = 0
    asked: int = 0
    open: int = 0
    unjudged: int = 0
    newer: int = 0


# Decisions ------------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """The records of one decision: consecutive records of a log with the same cause, the id of a fact.

    A record without a cause is a run of its own.
    """

    cause: str | None
    records: list[Notification]


class _Body(msgspec.Struct):
    cause: str | None = None


_body: Final = msgspec.json.Decoder(_Body)


class Runs:
    """Groups the records of a log by decision.

    `take` yields each run once it has taken the next run's first record; `rest` yields the last run, if any.
    """

    def __init__(self) -> None:
        self._open: Run | None = None

    def take(self, records: Sequence[Notification]) -> Iterator[Run]:
        for record in records:
            cause = _cause(record)
            if self._open is not None and cause is not None and cause == self._open.cause:
                self._open.records.append(record)
            else:
                yield from self.rest()
                self._open = Run(cause, [record])

    def rest(self) -> Iterator[Run]:
        if self._open is not None:
            done, self._open = self._open, None
            yield done


def _cause(record: Notification) -> str | None:
    try:
        return _body.decode(record.state).cause
    except DECODE_ERRORS:
        return None  # reported when it is folded


# The judge ------------------------------------------------------------------------------------------------------------


class Judge:
    """Judges one service: counts in `counts`, and calls `found` with each Difference, also of the kind `newer`.

    First call `take` with each run, in the order of the log; then `ask_again` with each fact that the service hears.
    """

    def __init__(self, code: Code, found: Callable[[Difference], None]) -> None:
        self.counts = DecisionCounts()
        self._code = code
        self._found = found
        self._states: dict[str, StreamState] = {}
        self._broken: set[str] = set()
        """Streams with a record that is missing, or cannot be decoded or folded: from there their state is unknown."""
        self._heard_until: datetime | None = None
        """The time of the newest fact that the service certainly heard, for it answered it; None: no such fact."""
        self._now: datetime | None = None
        """The time of the last readable fact in the service's log so far; None: no such fact."""

    def take(self, run: Run, cause: Notification | None) -> None:
        """Make the run's decision again over the records before it, report any difference, then fold the run's records.

        `cause`: the record of the fact that caused the run; None if the run or the history has no such fact.
        """
        facts = [self._read(record) for record in run.records]
        readable = [fact for fact in facts if fact is not None]
        self._find_holes(run.records)
        if run.cause is None:
            self.counts.given += len(run.records)
        elif len(readable) < len(facts):
            self.counts.unjudged += 1
        else:
            self._judge(run, cause, readable[0].at)
        for record, fact in zip(run.records, facts, strict=True):
            if fact is not None:
                self._fold(record, fact)

    def _judge(self, run: Run, cause: Notification | None, at: datetime) -> None:
        if cause is None:
            self._differs(run, "cause-missing", None, why="the history has no such fact")
            return
        try:
            fact = decode(cause.state)
        except msgspec.DecodeError:
            self.counts.unjudged += 1  # reported with its own service
            return
        name = NAMES[type(fact)]
        if type(fact) not in self._code.reactions and said_by(name) == self._code.name:
            self.counts.given += len(run.records)  # a timer of its own, such as the deadlines'
            return
        if type(fact) not in self._code.reactions:
            self.counts.decisions += 1
            self._differs(run, "not-heard", name, why=f"{self._code.name}_svc has no reaction to it")
            return
        self._heard_until = max(fact.at, self._heard_until or fact.at)
        try:
            now = self._decide(fact, at, id_of(cause))
        except Exception as error:
            self.counts.decisions += 1
            self._differs(run, "fails", name, why=describe(error))
            return
        if now is None:
            self.counts.unjudged += 1
            return
        self.counts.decisions += 1
        if not same(run.records, as_recorded(run.records, now)):
            self._differs(run, "differs", name, now)

    def ask_again(self, record: Notification) -> None:
        """Decide once more a fact that the service hears, over the states at the log's end; report a new fact or error.

        No new fact may follow: the service has answered the heard fact already, or had nothing to say. A heard fact
        newer than every answered one may still be undelivered: it is counted as open, and not reported.
        """
        try:
            fact = decode(record.state)
        except msgspec.DecodeError:
            return  # reported with its own service
        try:
            now = self._decide(fact, self._now or fact.at, id_of(record))
        except Exception as error:
            self._says_more(record, "fails", (), describe(error))
            return
        if now is None:
            return
        self.counts.asked += 1
        if now and (self._heard_until is None or fact.at > self._heard_until):
            self.counts.open += 1
        elif now:
            self._says_more(record, "in-addition", now, "it was answered already, or was left without an answer")

    # Deciding and folding ---------------------------------------------------------------------------------------------

    def _decide(self, fact: Fact, at: datetime, its_id: str) -> list[DecidedFact] | None:
        """Make a command of the fact and decide it at the instant `at`; return the new facts, and fold nothing.

        Returns None if the state of a stream is unknown (see `_broken`): of the command, or one in which older code
        would have recorded the answer. Raises what the working tree's code raises.
        """
        command = self._code.reactions[type(fact)](fact, at, its_id)
        streams = command.streams
        if not self._broken.isdisjoint(streams):
            return None
        aggregate = self._code.aggregates[category(streams[0])]
        facts = aggregate.decide(command, *(self._state(stream).state for stream in streams))
        return said(facts) if self._broken.isdisjoint(fact.earlier_stream for fact in facts) else None

    def _state(self, stream: str) -> StreamState:
        return self._states.get(stream) or StreamState(0, self._code.aggregates[category(stream)].state())

    def _read(self, record: Notification) -> Fact | None:
        try:
            return decode(record.state)
        except OfNewerCode as error:
            self.counts.newer += 1
            self._unreadable(record, str(error), "newer")
            return None
        except msgspec.DecodeError as error:
            self._unreadable(record, f"it cannot be decoded: {error}")
            return None

    def _find_holes(self, records: Sequence[Notification]) -> None:
        last: dict[str, int] = {}
        for record in records:
            stream, version = record.originator_id, record.originator_version
            if stream not in self._broken:
                state = self._states.get(stream)
                before = last.get(stream, state.version if state else 0)
                if version != before + 1:
                    self._unreadable(record, f"it follows version {before} of {stream}: the history is not whole")
                last[stream] = version

    def _fold(self, record: Notification, fact: Fact) -> None:
        stream = record.originator_id
        self._now = fact.at
        if stream in self._broken:
            return
        try:
            self._evolve(stream, fact).version += 1
            if fact.stream != stream:  # older code recorded it: both have it
                self._evolve(fact.stream, fact)
        except Exception as error:
            self._unreadable(record, f"it cannot be folded: {describe(error)}")

    def _evolve(self, stream: str, fact: Fact) -> StreamState:
        state = self._states[stream] = self._state(stream)
        self._code.aggregates[category(stream)].evolve(state.state, fact)
        return state

    # What is found ----------------------------------------------------------------------------------------------------

    def _differs(
        self, run: Run, kind: DifferenceKind, heard: str | None, now: Sequence[DecidedFact] = (), why: str | None = None
    ) -> None:
        now = as_recorded(run.records, now)
        fields = changed(run.records, now)
        recorded, names = tuple(record.topic for record in run.records), tuple(one.name for one in now)
        if kind == "differs" and recorded == names and not fields:
            why = "the same fields, written in another way or on another stream"
        first = run.records[0]
        self._tell(
            Difference(
                service=self._code.name,
                kind=kind,
                position=first.position,
                fact_id=id_of(first),
                cause=run.cause,
                heard=heard,
                recorded=recorded,
                now=names,
                fields=fields,
                why=why,
            )
        )

    def _says_more(self, record: Notification, kind: DifferenceKind, now: Sequence[DecidedFact], why: str) -> None:
        names = tuple(one.name for one in now)
        cause = id_of(record)
        self._tell(Difference(service=self._code.name, kind=kind, cause=cause, heard=record.topic, now=names, why=why))

    def _unreadable(self, record: Notification, why: str, kind: DifferenceKind = "unreadable") -> None:
        self._broken.add(record.originator_id)
        self._tell(
            Difference(
                service=self._code.name,
                kind=kind,
                position=record.position,
                fact_id=id_of(record),
                recorded=(record.topic,),
                why=why,
            )
        )

    def _tell(self, difference: Difference) -> None:
        if difference.kind != "newer":
            self.counts.differences += 1
        self._found(difference)
