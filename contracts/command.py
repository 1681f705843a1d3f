"""The base classes of commands: each has the instant of its decision and its cause, a fact's id or None.

A command knows the first fields of its facts. `stamp`, `about_order` and `priced_order` give them as keyword
arguments: `PointUsed(points=500, **command.priced_order())`. They are TypedDicts, so mypy still checks every field.
Commands repeat `frozen=True`, although they inherit it: mypy refuses a subclass that does not.
"""

from datetime import datetime
from typing import ClassVar, Protocol, TypedDict

from msgspec import Struct

from contracts.fact import Fact, Order, PricedFact, SagaFact


class Stamp(TypedDict):
    """The fields that every fact has, as its command gives them."""

    at: datetime
    cause: str | None


class AboutOrder(Stamp):
    """The fields of every SagaFact."""

    order_id: str
    order: Order


class PricedOrder(AboutOrder):
    """The fields of every PricedFact."""

    unit_prices: tuple[int, ...]
    total: int


class Request(Struct, frozen=True, kw_only=True):
    """A command of a client or of a timer, decided at the instant `at`; `cause`: the fact behind it, if any."""

    says: ClassVar[tuple[type[Fact], ...]]

    at: datetime
    cause: str | None = None

    def stamp(self) -> Stamp:
        return {"at": self.at, "cause": self.cause}


class Reaction(Struct, frozen=True):
    """A command that answers a fact of an order. Each subclass narrows `fact` to the facts it answers.

    `at` is the instant of the decision, `cause` the id of the fact.
    """

    says: ClassVar[tuple[type[Fact], ...]]

    fact: SagaFact
    at: datetime
    cause: str | None

    @property
    def order_id(self) -> str:
        return self.fact.order_id

    @property
    def order(self) -> Order:
        return self.fact.order

    def stamp(self) -> Stamp:
        return {"at": self.at, "cause": self.cause}

    def about_order(self) -> AboutOrder:
        fact = self.fact
        return {"at": self.at, "cause": self.cause, "order_id": fact.order_id, "order": fact.order}

    def priced_order(self: "AnswersPricedFact") -> PricedOrder:
        """Only for commands that answer a PricedFact: mypy refuses the others."""
        fact = self.fact
        return {
            "at": self.at,
            "cause": self.cause,
            "order_id": fact.order_id,
            "order": fact.order,
            "unit_prices": fact.unit_prices,
            "total": fact.total,
        }


class AnswersPricedFact(Protocol):
    """A command whose `fact` was said after the products were priced."""

    @property
    def fact(self) -> PricedFact: ...
    @property
    def at(self) -> datetime: ...
    @property
    def cause(self) -> str | None: ...
