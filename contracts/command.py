"""The base classes of commands: each has the instant of its decision and its cause, a fact's id or None.

A command knows the fields that its facts inherit. `stamp`, and for a Reaction also `about_order` and `priced_order`,
return those fields as keyword arguments: `PointUsed(points=500, **command.priced_order())`. The dicts are TypedDicts,
so mypy still checks every field.

Commands repeat `frozen=True`, although they inherit it: mypy refuses a subclass that does not.
"""

from datetime import datetime
from typing import ClassVar, Protocol, TypedDict

from msgspec import Struct

from contracts.fact import Fact, Order, PricedFact, SagaFact


class Stamp(TypedDict):
    """The fields of every Fact, as keyword arguments.

    `at`: the instant (UTC) of the decision. `cause`: the id of the fact that led to the command, None without one.
    """

    at: datetime
    cause: str | None


class AboutOrder(Stamp):
    """The fields of every SagaFact, as keyword arguments."""

    order_id: str
    order: Order


class PricedOrder(AboutOrder):
    """The fields of every PricedFact, as keyword arguments. Prices in won; `unit_prices` in the order of the lines."""

    unit_prices: tuple[int, ...]
    total: int


class Request(Struct, frozen=True, kw_only=True):
    """Base of the commands that a client's request or a timer makes.

    `at` is the instant (UTC) of the decision. `cause` is the id of the fact that led to it; None for a client's.
    """

    says: ClassVar[tuple[type[Fact], ...]]

    at: datetime
    cause: str | None = None

    def stamp(self) -> Stamp:
        return {"at": self.at, "cause": self.cause}


class Reaction(Struct, frozen=True):
    """Base of the commands that answer a fact of an order. Each command narrows `fact` to the facts it answers.

    `at` is the instant (UTC) of the decision; `cause` is the id of `fact`.
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
        """Return the fields that a PricedFact which answers `fact` inherits: order and prices are those of `fact`.

        mypy refuses the call if `fact` may be no PricedFact.
        """
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
    """A type for mypy alone: a Reaction whose `fact` is a PricedFact, so that `priced_order` can be called."""

    @property
    def fact(self) -> PricedFact: ...
    @property
    def at(self) -> datetime: ...
    @property
    def cause(self) -> str | None: ...
