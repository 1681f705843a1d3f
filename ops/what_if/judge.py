"""The judge of one service's log: each decision is made again, and then what was recorded is folded."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from contracts.fact import Fact
from contracts.wire import NAMES, decode, said_by
from infra.core.decider import Aggregates, StreamState, category
from infra.core.writer import Reactions
from infra.store.records import Notification
from ops.what_if.difference import Difference, Kind, Said, changed, describe, id_of, said, same


class Code(NamedTuple):
    """What a service decides with."""

    name: str
    aggregates: Aggregates
    reactions: Reactions


class Tally(msgspec.Struct):
    """Counts of one service.

    `decisions`: made again. `given`: records that no heard fact caused. `asked`: heard facts put before the end of
    history once more. `open`: of these, said after the last one that is answered, and still to be answered.
    `unjudged`: decisions over a stream that cannot be folded, or because of a fact that cannot be read.
    """

    decisions: int = 0
    differences: int = 0
    given: int = 0
    asked: int = 0
    open: int = 0
    unjudged: int = 0


# Decisions ------------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """What one decision recorded: consecutive records with one cause. Without a cause each record stands alone."""

    cause: str | None
    records: list[Notification]


class _Body(msgspec.Struct):
    cause: str | None = None


_body: Final = msgspec.json.Decoder(_Body)


class Runs:
    """Puts the records of a log together to decisions; the newest stays open until the next one begins."""

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
    except msgspec.DecodeError:
        return None  # found again, and told, when it is to be folded


# The judge ------------------------------------------------------------------------------------------------------------


class Judge:
    """Takes the decisions of a service in the order of its log, then everything it heard once more."""

    def __init__(self, code: Code, found: Callable[[Difference], None]) -> None:
        self.tally = Tally()
        self._code = code
        self._found = found
        self._heads: dict[str, StreamState] = {}
        self._broken: set[str] = set()
        """Streams with a record that could not be folded: nothing is known of them from there on."""
        self._heard_until: datetime | None = None
        """When the newest fact that the service is known to have heard was said."""
        self._now: datetime | None = None
        """When the service recorded its last fact."""

    def take(self, run: Run, cause: Notification | None) -> None:
        """Decide it again over the records before it, then fold its own. `cause`: its record, if history has it."""
        facts = [self._read(record) for record in run.records]
        readable = [fact for fact in facts if fact is not None]
        self._find_holes(run.records)
        if run.cause is None:
            self.tally.given += len(run.records)
        elif len(readable) < len(facts):
            self.tally.unjudged += 1
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
            self.tally.unjudged += 1  # told where it stands
            return
        name = NAMES[type(fact)]
        if type(fact) not in self._code.reactions and said_by(name) == self._code.name:
            self.tally.given += len(run.records)  # a timer of its own, such as the deadlines'
            return
        if type(fact) not in self._code.reactions:
            self.tally.decisions += 1
            self._differs(run, "not-heard", name, why=f"{self._code.name}_svc has no reaction to it")
            return
        self._heard_until = max(fact.at, self._heard_until or fact.at)
        try:
            now = self._decide(fact, at, id_of(cause))
        except Exception as error:
            self.tally.decisions += 1
            self._differs(run, "fails", name, why=describe(error))
            return
        if now is None:
            self.tally.unjudged += 1
            return
        self.tally.decisions += 1
        if not same(run.records, now):
            self._differs(run, "differs", name, now)

    def ask_again(self, record: Notification) -> None:
        """Decide a fact that the service hears over the end of its log: asked twice, it says nothing.

        Nor does it where it recorded nothing at the time: whatever fact may come has come. Said after the newest one
        that is answered, it may just not have been heard yet.
        """
        try:
            fact = decode(record.state)
        except msgspec.DecodeError:
            return  # told where it stands
        try:
            now = self._decide(fact, self._now or fact.at, id_of(record))
        except Exception as error:
            self._says_more(record, "fails", (), describe(error))
            return
        if now is None:
            return
        self.tally.asked += 1
        if now and (self._heard_until is None or fact.at > self._heard_until):
            self.tally.open += 1
        elif now:
            self._says_more(record, "in-addition", now, "it is answered already, or was left without an answer")

    # Deciding and folding ---------------------------------------------------------------------------------------------

    def _decide(self, fact: Fact, at: datetime, its_id: str) -> list[Said] | None:
        """As the writer does; None: over a stream that is broken. Raises what the working tree's code raises."""
        command = self._code.reactions[type(fact)](fact, at, its_id)
        streams = command.streams
        if not self._broken.isdisjoint(streams):
            return None
        aggregate = self._code.aggregates[category(streams[0])]
        return said(aggregate.decide(command, *(self._head(stream).state for stream in streams)))

    def _head(self, stream: str) -> StreamState:
        return self._heads.get(stream) or StreamState(0, self._code.aggregates[category(stream)].state())

    def _read(self, record: Notification) -> Fact | None:
        try:
            return decode(record.state)
        except msgspec.DecodeError as error:
            self._unreadable(record, f"it cannot be decoded: {error}")
            return None

    def _find_holes(self, records: Sequence[Notification]) -> None:
        last: dict[str, int] = {}
        for record in records:
            stream, version = record.originator_id, record.originator_version
            if stream not in self._broken:
                head = self._heads.get(stream)
                before = last.get(stream, head.version if head else 0)
                if version != before + 1:
                    self._unreadable(record, f"it follows version {before} of {stream}: the history is not whole")
                last[stream] = version

    def _fold(self, record: Notification, fact: Fact) -> None:
        stream = record.originator_id
        self._now = fact.at
        if stream in self._broken:
            return
        try:
            head = self._heads[stream] = self._head(stream)
            self._code.aggregates[category(stream)].evolve(head.state, fact)
            head.version += 1
        except Exception as error:
            self._unreadable(record, f"it cannot be folded: {describe(error)}")

    # What is found ----------------------------------------------------------------------------------------------------

    def _differs(
        self, run: Run, kind: Kind, heard: str | None, now: Sequence[Said] = (), why: str | None = None
    ) -> None:
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

    def _says_more(self, record: Notification, kind: Kind, now: Sequence[Said], why: str) -> None:
        names = tuple(one.name for one in now)
        cause = id_of(record)
        self._tell(Difference(service=self._code.name, kind=kind, cause=cause, heard=record.topic, now=names, why=why))

    def _unreadable(self, record: Notification, why: str) -> None:
        self._broken.add(record.originator_id)
        self._tell(
            Difference(
                service=self._code.name,
                kind="unreadable",
                position=record.position,
                fact_id=id_of(record),
                recorded=(record.topic,),
                why=why,
            )
        )

    def _tell(self, difference: Difference) -> None:
        self.tally.differences += 1
        self._found(difference)
