"""A decision that would differ: what was recorded, what would be said now, which fields differ."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from contracts.fact import Fact
from contracts.wire import NAMES, encode, fact_id
from infra.store.records import Notification

DifferenceKind = Literal["differs", "in-addition", "fails", "not-heard", "cause-missing", "unreadable"]
"""differs: other facts, or other fields. in-addition: nothing was recorded, but now something would be. fails: the
reaction or decide raises. not-heard: there is no reaction to the cause any more. cause-missing: the history does not
have the cause. unreadable: a record cannot be decoded or folded, so its stream cannot be judged from there on."""


class Changed(msgspec.Struct, frozen=True):
    """A field of a fact, by its path in the JSON. A side that does not have it is left out."""

    fact: str
    field: str
    recorded: Any | UnsetType = UNSET
    now: Any | UnsetType = UNSET


class Difference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One decision that would differ.

    `position` and `fact_id` are those of its first record in the service's log; missing if nothing was recorded.
    `cause` is the id of the fact that was heard, `heard` its name. `recorded` and `now` are names of facts.
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
    """A fact that the working tree decides, as it would be recorded."""

    stream: str
    name: str
    body: bytes


def said(facts: Sequence[Fact]) -> list[DecidedFact]:
    return [DecidedFact(fact.stream, NAMES[type(fact)], encode(fact)) for fact in facts]


def same(records: Sequence[Notification], now: Sequence[DecidedFact]) -> bool:
    """Whether these facts would be recorded as these records, byte for byte."""
    return len(records) == len(now) and all(
        body == record.state and stream == record.originator_id
        for record, (stream, _, body) in zip(records, now, strict=True)
    )


def id_of(record: Notification) -> str:
    return fact_id(record.originator_id, record.originator_version)


def changed(records: Sequence[Notification], now: Sequence[DecidedFact]) -> tuple[Changed, ...]:
    """The fields that differ between facts of one name in the same place."""
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
