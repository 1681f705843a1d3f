"""A product has a price and a stock. Its event stream is the stock ledger: what came in, was held, was given back."""

from typing import ClassVar, assert_never

from msgspec import Struct

from contracts.command import Request
from contracts.product import (
    ProductRegistered,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReceived,
    ProductStockReturned,
)

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = ProductRegistered | ProductStockAdded | ProductStockReceived | ProductStockHeld | ProductStockReturned


# Commands -------------------------------------------------------------------------------------------------------------
class Register(Request, frozen=True):
    """Put a product on sale at `price` won with `stock` pieces. A repeat with the same values does nothing."""

    says: ClassVar = (ProductRegistered, ProductStockAdded)
    product_id: str
    name: str
    price: int
    stock: int

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"product-{self.product_id}",)


Command = Register


class RegisteredDifferently(Exception):
    """The product to register is registered already, with another name, price or first stock."""


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """One product. `name`: None until it is registered. `available`: pieces that no order holds.

    `first_stock`: pieces at registration. `added`: all pieces that came in later.

    The size of the state does not grow: Reservations keep the answers to orders, Additions those about added stock.
    """

    name: str | None = None
    price: int = 0
    first_stock: int = 0
    available: int = 0
    added: int = 0


# Decide ---------------------------------------------------------------------------------------------------------------
def decide(command: Command, state: State) -> tuple[Event, ...]:
    match command:
        case Register(product_id, name, price, stock):
            if state.name is not None:
                if (name, price, stock) != (state.name, state.price, state.first_stock):
                    raise RegisteredDifferently(product_id)
                return ()  # registered already
            registered = ProductRegistered(product_id=product_id, name=name, price=price, **command.stamp())
            if stock == 0:
                return (registered,)
            return (registered, ProductStockAdded(product_id=product_id, quantity=stock, **command.stamp()))
        case _:
            assert_never(command)


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event) -> None:
    match event:
        case ProductStockHeld():
            state.available -= event.quantity
        case ProductStockReturned():
            state.available += event.quantity
        case ProductStockAdded(idempotency_key=None):
            state.available += event.quantity
            state.first_stock = event.quantity
        case ProductStockReceived() | ProductStockAdded():  # older code recorded added stock here by the latter
            state.available += event.quantity
            state.added += event.quantity
        case ProductRegistered():
            state.name = event.name
            state.price = event.price
        case _:
            assert_never(event)
