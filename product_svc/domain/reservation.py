"""A reservation holds every line of an order or none; one decision over it and the products it touches."""

from datetime import datetime
from typing import ClassVar, Literal, assert_never

from msgspec import Struct

from contracts import (
    WITHDRAWALS,
    CouponUseFailed,
    OrderCanceled,
    OrderCreatedPending,
    PointUseFailed,
    ProductRefusal,
    ProductReleased,
    ProductReserved,
    ProductReserveFailed,
    ProductReserveVoided,
    ProductStockHeld,
    ProductStockReturned,
    SagaFact,
)
from product_svc.domain import product

# Events ---------------------------------------------------------------------------------------------------------------

Event = ProductReserved | ProductReserveFailed | ProductReleased | ProductReserveVoided
Ledger = ProductStockHeld | ProductStockReturned

# Commands -------------------------------------------------------------------------------------------------------------


def _streams(fact: SagaFact) -> tuple[str, ...]:
    """The reservation's stream, then those of its products in the order of the lines."""
    return (f"reservation-{fact.order_id}", *(f"product-{line.product_id}" for line in fact.order.lines))


class Reserve(Struct, frozen=True):
    """Hold every line of the order."""

    says: ClassVar = (ProductStockHeld, ProductReserved, ProductReserveFailed)

    fact: OrderCreatedPending
    at: datetime
    cause: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return _streams(self.fact)


class Release(Struct, frozen=True):
    """Give back what the order holds; if it has not come yet, see that it never will."""

    says: ClassVar = (ProductStockReturned, ProductReleased, ProductReserveVoided)

    fact: PointUseFailed | CouponUseFailed | OrderCanceled
    at: datetime
    cause: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return _streams(self.fact)


Command = Reserve | Release

# State ----------------------------------------------------------------------------------------------------------------


class State(Struct):
    """What the order was answered; None: nothing yet."""

    answer: Literal["reserved", "refused", "released", "voided"] | None = None


# Decide ---------------------------------------------------------------------------------------------------------------


def decide(command: Command, state: State, *products: product.State) -> tuple[Event | Ledger, ...]:
    """`products` are in the order of the lines."""
    match command, state.answer:
        case Reserve(), None:
            return _reserve(command, products)
        case Reserve(), _:
            return ()  # answered already, or fenced
        case Release(OrderCanceled(reason=reason)), _ if reason not in WITHDRAWALS:
            return ()  # the refusal itself reaches every step that acted
        case Release(fact), None:
            return (ProductReserveVoided(at=command.at, cause=command.cause, order_id=fact.order_id, order=fact.order),)
        case Release(fact), "reserved":
            return (
                *(
                    ProductStockReturned(
                        at=command.at,
                        cause=command.cause,
                        product_id=line.product_id,
                        order_id=fact.order_id,
                        quantity=line.quantity,
                    )
                    for line in fact.order.lines
                ),
                ProductReleased(at=command.at, cause=command.cause, order_id=fact.order_id, order=fact.order),
            )
        case Release(), _:
            return ()  # nothing is held
        case _:
            raise AssertionError(command)


def _reserve(command: Reserve, products: tuple[product.State, ...]) -> tuple[Event | Ledger, ...]:
    fact, lines = command.fact, command.fact.order.lines
    for line, stock in zip(lines, products, strict=True):
        refusal: ProductRefusal | None = None
        if stock.name is None:
            refusal = "product-unknown"
        elif stock.available < line.quantity:
            refusal = "product-out-of-stock"
        if refusal is not None:
            return (
                ProductReserveFailed(
                    at=command.at,
                    cause=command.cause,
                    order_id=fact.order_id,
                    order=fact.order,
                    product_id=line.product_id,
                    reason=refusal,
                ),
            )
    prices = tuple(stock.price for stock in products)
    return (
        *(
            ProductStockHeld(
                at=command.at,
                cause=command.cause,
                product_id=line.product_id,
                order_id=fact.order_id,
                quantity=line.quantity,
            )
            for line in lines
        ),
        ProductReserved(
            at=command.at,
            cause=command.cause,
            order_id=fact.order_id,
            order=fact.order,
            unit_prices=prices,
            total=sum(price * line.quantity for price, line in zip(prices, lines, strict=True)),
        ),
    )


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
