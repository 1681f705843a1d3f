"""Facts of newer code: those of a type that this code does not know, or with an unknown word, such as a reason.

A word is a value from a closed set. An unknown field alone does not count: it is ignored.

Older code meets them after a rollback: its logs, and EVENTS, have what the newer version recorded. Such a fact is not
damaged. No command is decided from it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from contracts.fact import DECODE_ERRORS, Fact
from contracts.step import fact_name

NEXT_STEP: Final = "install the newer version again"
"""What to do about facts of newer code. Nothing of them has to be repaired."""


class OfNewerCode(msgspec.ValidationError):
    """A body is a fact of newer code, unless its message is foreign. `what`: what this code does not know, in words.

    `fact`: the fact with its unknown words, without fields that are unknown here; None for an unknown type. Its static
    type promises too much: a word such as the reason may be any text. Only for readers that count, such as the audit.
    """

    def __init__(self, what: str, fact: Fact | None = None) -> None:
        super().__init__(f"it is of newer code: {what}; {NEXT_STEP}")
        self.what = what
        self.fact = fact


class _Any(Struct):
    """The two fields without which a body is no fact, not even one of newer code."""

    type: str
    at: Annotated[datetime, Meta(tz=True)]


_any: Final = msgspec.json.Decoder(_Any)


def newer(body: bytes, facts: Mapping[str, type[Fact]]) -> OfNewerCode | None:
    """Return the error for a body that is a fact of newer code; None if the body is damaged or no fact at all.

    `facts` are the known types, by name. Call this for a body that could not be decoded as one of them.
    """
    try:
        name = _any.decode(body).type
        if name not in facts:
            return OfNewerCode(f"its type {name[:80]!a} is unknown here")
        fields = msgspec.json.decode(body)
        unknown = {
            field: fields[field]
            for field, known in words_of(facts[name]).items()
            if isinstance(fields.get(field), str) and fields[field] not in known
        }
        if not unknown:
            return None
        known_ones = {field: next(iter(words_of(facts[name])[field])) for field in unknown}
        fact: Fact = msgspec.convert({**fields, **known_ones}, facts[name])
    except DECODE_ERRORS:
        return None
    told = ", ".join(f"its {field} {value[:80]!a} is unknown here" for field, value in unknown.items())
    return OfNewerCode(told, msgspec.structs.replace(fact, **unknown))


class _About(Struct):
    order_id: str | None = None
    order: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_about: Final = msgspec.json.Decoder(_About)


def newer_key(body: bytes, stream: str) -> str:
    """Return the key of a recorded fact whose type only newer code knows: this code may have to publish the fact.

    The key is the order's id for a fact of an order's saga, which carries the order. For any other fact it is what
    follows the first `-` in `stream`. Newer code may have another key then: it names some streams by a hash.
    """
    try:
        about = _about.decode(body)
    except DECODE_ERRORS:
        return stream.partition("-")[2]
    saga = about.order is not msgspec.UNSET and about.order_id is not None
    return str(about.order_id) if saga else stream.partition("-")[2]


@cache
def words_of(fact: type[Fact]) -> Mapping[str, frozenset[str]]:
    """Map the fields of a fact that have one of a few words, such as `reason`, to the words that this code knows."""
    return {field: words for field, hint in get_type_hints(fact).items() if (words := frozenset(_words(hint)))}


def _words(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from _words(part)


def vocabulary(facts: Iterable[type[Fact]]) -> frozenset[str]:
    """Return what this code knows of these facts, as texts: `<name>`, `<name> <field>` and `<name> <field> <word>`.

    A field of an order is `order.<field>`, of a line `order.lines.<field>`.
    """
    return frozenset(text for fact in facts for text in _of(fact))


def _of(fact: type[Fact]) -> Iterator[str]:
    name = fact_name(fact)
    yield name
    for field in _fields(fact):
        yield f"{name} {field}"
    for field, words in words_of(fact).items():
        yield from (f"{name} {field} {word}" for word in words)


def _fields(kind: type[Struct]) -> Iterator[str]:
    for field, hint in get_type_hints(kind).items():
        if field in kind.__struct_fields__:
            yield field
            for inner in _structs(hint):
                yield from (f"{field}.{name}" for name in _fields(inner))


def _structs(hint: Any) -> Iterator[type[Struct]]:
    if isinstance(hint, type) and issubclass(hint, Struct):
        yield hint
    for part in get_args(hint):
        yield from _structs(part)


def known_fields(words: Iterable[str], facts: Collection[str]) -> list[str]:
    """Return those texts of a vocabulary (`words`) that name a field, `<name> <field>`, of one of these facts, sorted.

    `facts` are their names.
    """
    return sorted(word for word in words if word.count(" ") == 1 and word.partition(" ")[0] in facts)
