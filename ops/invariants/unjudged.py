"""Facts of newer code in the history, and what this code cannot judge because of them.

Such a fact is counted, and is no finding. A finding that it may explain is dropped. But versions, causes and copies
(invariants 7 and 8) are judged of every fact. Only a cause that no other facts name, in a stream of a category that no
log has, is taken on trust. What an order's course lacks (Chain, of 7, too) is a finding that may be explained.

A fact of an unknown type may explain findings about its stream's subject and its order, with that order's products,
account and coupon. It also may explain those about the product, account or coupon that it names itself. A fact of a
known type with an unknown reason may explain only findings about its order, or without one about its stream's subject.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from contracts import Order
from contracts.fact import DECODE_ERRORS, Fact, SagaFact
from contracts.newer import OfNewerCode
from ops.invariants.findings import Entry

MOST_SHOWN: Final = 100
KINDS: Final = ("order", "product", "account", "coupon")
"""What a finding may be about: the first word of a subject, and of a stream's name."""


class Newer(NamedTuple):
    """A fact of newer code: `where` it is, and `what` of it this code does not know."""

    where: str
    what: str


class _Line(Struct):
    product_id: str


class _Order(Struct):
    user_id: str
    lines: list[_Line]
    coupon_id: str | None = None


class _Body(Struct):
    order_id: str | None = None
    order: _Order | None = None
    product_id: str | None = None
    user_id: str | None = None
    coupon_id: str | None = None


class _Caused(Struct):
    cause: str | None = None


_body: Final = msgspec.json.Decoder(_Body)
_caused: Final = msgspec.json.Decoder(_Caused)


def cause_of(body: bytes) -> str | None:
    """Return the cause that a fact of an unknown type names; None if it names none that this code can read."""
    try:
        return _caused.decode(body).cause
    except DECODE_ERRORS:
        return None


class Unjudged:
    """Takes the facts of newer code, and says what cannot be judged because of them.

    It also takes messages of services that this version does not have; they explain nothing. `facts`: how many of both
    it has taken; `first`: the first MOST_SHOWN of these.
    """

    def __init__(self) -> None:
        self.facts = 0
        self.first: list[Newer] = []
        self._subjects: set[str] = set()

    def add(self, where: object, what: str) -> None:
        self.facts += 1
        if len(self.first) < MOST_SHOWN:
            self.first.append(Newer(str(where), what))

    def take(self, entry: Entry, error: OfNewerCode, body: bytes) -> None:
        """Count the fact at `entry`, whose body `decode` refused with this error, and remember what it may explain."""
        self.add(entry, f"is of newer code: {error.what}")
        if error.fact is not None:
            self._subjects.add(f"order {error.fact.order_id}" if isinstance(error.fact, SagaFact) else _of(entry))
            return
        self._subjects.add(_of(entry))
        try:
            fact = _body.decode(body)
        except DECODE_ERRORS:  # its fields have other types, too
            return
        if fact.order_id is not None:
            self._subjects.add(f"order {fact.order_id}")
        if fact.order is not None:
            self._subjects |= _concerned(fact.order)
        named = {"product": fact.product_id, "account": fact.user_id, "coupon": fact.coupon_id}
        self._subjects |= {f"{kind} {key}" for kind, key in named.items() if key is not None}

    def subjects(self, invariant: int, where: object, fact: Fact | None) -> set[str]:
        """Return what a finding is about, such as `product mug`; empty if no fact of newer code can explain it.

        `fact`: the fact at hand; None: there is none. Findings of invariants 7 and 8 (versions, causes, copies) at one
        fact are never explained.
        """
        if not isinstance(where, Entry):
            kind, _, _ = str(where).partition(" ")
            return {str(where)} if kind in KINDS else set()
        return set() if invariant in (7, 8) else _about(where, fact)

    def explains(self, subjects: Collection[str]) -> bool:
        """Whether a finding about these subjects is to be dropped, because a fact taken until now may explain it."""
        return not self._subjects.isdisjoint(subjects)


def _about(entry: Entry, fact: Fact | None) -> set[str]:
    found = {_of(entry)}
    if fact is not None:
        found.add(_of_stream(fact.earlier_stream))
    if isinstance(order_id := getattr(fact, "order_id", None), str):
        found.add(f"order {order_id}")
    if isinstance(fact, SagaFact):
        found |= _concerned(fact.order)
    return found


def _concerned(order: Order | _Order) -> set[str]:
    found = {f"product {line.product_id}" for line in order.lines}
    found.add(f"account {order.user_id}")
    if order.coupon_id is not None:
        found.add(f"coupon {order.coupon_id}")
    return found


def _of(entry: Entry) -> str:
    return _of_stream(entry.stream)


def _of_stream(stream: str) -> str:
    kind, _, key = stream.partition("-")
    return f"{kind} {key}" if kind in KINDS else f"order {key}"
