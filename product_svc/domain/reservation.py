"""A reservation holds every line of an order or none. One decision covers the reservation and its products."""

from typing import ClassVar, Literal, TypeVar, assert_never

from msgspec import Struct

from contracts.command import Reaction
from contracts.coupon import CouponUseFailed
from contracts.fact import WITHDRAWALS, Line, ProductRefusal
from contracts.order import OrderCanceled, OrderCreatedPending
from contracts.point import PointUseFailed
from contracts.product import (
    ProductReleased,
    ProductReserved,
    ProductReserveFailed,
    ProductReserveVoided,
    ProductStockHeld,
    ProductStockReturned,
)
from product_svc.domain import product

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = ProductReserved | ProductReserveFailed | ProductReleased | ProductReserveVoided
Ledger = ProductStockHeld | ProductStockReturned


# Commands -------------------------------------------------------------------------------------------------------------
class ReservationReaction(Reaction, frozen=True):
    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the reservation's stream, then of its products' streams in the order of the lines."""
        fact = self.fact
        return (f"reservation-{fact.order_id}", *[f"product-{line.product_id}" for line in fact.order.lines])


class Reserve(ReservationReaction, frozen=True):
    """Hold every line of the order, or refuse the order and hold none.

    Does nothing if the order has an answer already; a fence is one, too.
    """

    says: ClassVar = (ProductStockHeld, ProductReserved, ProductReserveFailed)
    fact: OrderCreatedPending


class Release(ReservationReaction, frozen=True):
    """Give back what the order holds. If its Reserve has not come yet, make sure that the order never holds any stock.

    Does nothing for an OrderCanceled that a refusal led to: if stock was held, product_svc hears that refusal itself.
    """

    says: ClassVar = (ProductStockReturned, ProductReleased, ProductReserveVoided)
    fact: PointUseFailed | CouponUseFailed | OrderCanceled


Command = Reserve | Release


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """The last answer that the order got; None until it got one. Only "reserved" means that stock is held."""

    answer: Literal["reserved", "refused", "released", "voided"] | None = None


# Decide ---------------------------------------------------------------------------------------------------------------
def decide(command: Command, state: State, *products: product.State) -> tuple[Event | Ledger, ...]:
    """Return the command's facts; none if nothing is to be done. `products`: states in the order of the lines."""
    match command:
        case Reserve():
            if state.answer is not None:
                return ()  # answered already, or fenced
            return _reserve(command, products)
        case Release(OrderCanceled(reason=reason)) if reason not in WITHDRAWALS:
            return ()  # the refusal itself reaches every step that acted
        case Release():
            if state.answer is None:
                return (ProductReserveVoided(**command.about_order()),)
            if state.answer != "reserved":
                return ()  # nothing is held
            return (*_each_line(ProductStockReturned, command), ProductReleased(**command.about_order()))
        case _:
            assert_never(command)


def _reserve(command: Reserve, products: tuple[product.State, ...]) -> tuple[Event | Ledger, ...]:
    lines = command.fact.order.lines
    for line, stock in zip(lines, products, strict=True):
        if stock.name is None:
            return (_failed(command, line, "product-unknown"),)
        if stock.available < line.quantity:
            return (_failed(command, line, "product-out-of-stock"),)
    prices = tuple([stock.price for stock in products])
    total = sum([price * line.quantity for price, line in zip(prices, lines, strict=True)])
    reserved = ProductReserved(unit_prices=prices, total=total, **command.about_order())
    return (*_each_line(ProductStockHeld, command), reserved)


def _failed(command: Reserve, line: Line, reason: ProductRefusal) -> ProductReserveFailed:
    return ProductReserveFailed(product_id=line.product_id, reason=reason, **command.about_order())


_Ledger = TypeVar("_Ledger", ProductStockHeld, ProductStockReturned)


def _each_line(fact: type[_Ledger], command: Command) -> list[_Ledger]:
    """Make one fact of this type for each line of the command's order."""
    at, cause, order_id = command.at, command.cause, command.fact.order_id
    return [
        fact(at=at, cause=cause, product_id=line.product_id, order_id=order_id, quantity=line.quantity)
        for line in command.fact.order.lines
    ]


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event) -> None:
    match event:
        case ProductReserved():
            state.answer = "reserved"
        case ProductReserveFailed():
            state.answer = "refused"
        case ProductReleased():
            state.answer = "released"
        case ProductReserveVoided():
            state.answer = "voided"
        case _:
            assert_never(event)
