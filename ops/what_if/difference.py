"""The difference of a decision: what was recorded, what the working tree would say, which fields differ."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from contracts.fact import Fact
from contracts.wire import FACTS, NAMES, encode, fact_id
from infra.store.records import Notification

DifferenceKind = Literal["differs", "in-addition", "fails", "not-heard", "cause-missing", "unreadable", "newer"]
"""differs: other facts, or other fields. in-addition: decided once more over the end of the log, the cause leads to a
fact that was not recorded. fails: the reaction or decide raises. not-heard: the working tree has no reaction to the
cause. cause-missing: the history does not have the cause. unreadable: a record cannot be decoded or folded, or the
versions before it are not all there, so its stream cannot be judged from there on. newer: the same, because newer code
recorded it; it is shown, but no difference."""


class Changed(msgspec.Struct, frozen=True):
    """A field that differs, by its path in the JSON of the fact named `fact`, such as `order.lines[0].quantity`.

    `recorded` and `now` are its two values; UNSET, and left out of JSON, on a side without the field.
    """

    fact: str
    field: str
    recorded: Any | UnsetType = UNSET
    now: Any | UnsetType = UNSET


class Difference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One decision of a service that would differ, or one record that cannot be read.

    `position` and `fact_id` are those of the decision's first record in the service's log, or of the record that cannot
    be read; None if the decision was made once more over the end of the log. `cause` is the id of the fact that was
    heard, `heard` its name, if known. `recorded` and `now` are the names of the facts recorded and of those that the
    working tree decides. `why`: the reason, if there is more to say.
    """

    service: str
    kind: DifferenceKind
    position: int | None = None
    fact_id: str | None = None
    cause: str | None = None
    heard: str | None = None
    recorded: tuple[str, ...] = ()
    now: tuple[str, ...] = ()
    fields: tuple[Changed, ...] = ()
    why: str | None = None


class DecidedFact(NamedTuple):
    """A fact that the working tree decides, as it would be recorded: its stream, its name, its body in JSON.

    `earlier_stream`: the stream in which older code recorded such a fact. `implied`: older code recorded none.
    """

    stream: str
    name: str
    body: bytes
    earlier_stream: str
    implied: bool


def said(facts: Sequence[Fact]) -> list[DecidedFact]:
    return [
        DecidedFact(fact.stream, NAMES[type(fact)], encode(fact), fact.earlier_stream, fact.implied) for fact in facts
    ]


def as_recorded(records: Sequence[Notification], now: Sequence[DecidedFact]) -> Sequence[DecidedFact]:
    """Return the facts `now` as older code would have recorded them, if older code recorded `records`; else unchanged.

    Older code did if one of the records is an answer in a stream that has no answers today. It recorded answers in
    `earlier_stream`, and no `implied` facts.
    """
    moved = {one.earlier_stream for one in now if one.earlier_stream != one.stream}
    if not any(record.originator_id in moved and not FACTS[record.topic].implied for record in records):
        return now
    return [one._replace(stream=one.earlier_stream) for one in now if not one.implied]


def same(records: Sequence[Notification], now: Sequence[DecidedFact]) -> bool:
    """Whether the facts `now`, recorded, would equal `records`: as many, in this order, same streams and bodies."""
    return len(records) == len(now) and all(
        one.body == record.state and one.stream == record.originator_id
        for record, one in zip(records, now, strict=True)
    )


def id_of(record: Notification) -> str:
    return fact_id(record.originator_id, record.originator_version)


def changed(records: Sequence[Notification], now: Sequence[DecidedFact]) -> tuple[Changed, ...]:
    """Return the fields that differ between each record and the fact at the same index.

    Pairs with different names, and what one side has more than the other, are left out.
    """
    return tuple(
        Changed(one.name, field, before, after)
        for record, one in zip(records, now, strict=False)
        if record.topic == one.name
        for field, before, after in _changes(record.state, one.body)
    )


def _changes(recorded: bytes, now: bytes) -> Iterator[tuple[str, Any, Any]]:
    before, after = (dict(_fields(msgspec.json.decode(body))) for body in (recorded, now))
    for field in before | after:
        if before.get(field, UNSET) != after.get(field, UNSET):
            yield field, before.get(field, UNSET), after.get(field, UNSET)


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    match value:
        case dict() if value:
            for name, part in value.items():
                yield from _fields(part, f"{path}.{name}" if path else name)
        case list() if value:
            for index, part in enumerate(value):
                yield from _fields(part, f"{path}[{index}]")
        case _:
            yield path, value


MOST_CHARACTERS: Final = 300  # of an error: some contain the whole command


def describe(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
