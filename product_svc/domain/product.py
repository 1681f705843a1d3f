"""A product has a price and a stock. Its event stream is the stock ledger: what came in, was held, was given back."""

from typing import ClassVar, assert_never

from msgspec import Struct, field

from contracts.command import Request
from contracts.fact import MOST
from contracts.product import ProductRegistered, ProductStockAdded, ProductStockHeld, ProductStockReturned

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = ProductRegistered | ProductStockAdded | ProductStockHeld | ProductStockReturned


# Commands -------------------------------------------------------------------------------------------------------------
class ProductRequest(Request, frozen=True):
    product_id: str

    @property
    def streams(self) -> tuple[str, ...]:
        return (f"product-{self.product_id}",)


class Register(ProductRequest, frozen=True):
    """Put a product on sale at `price` won with `stock` pieces. A repeat with the same values does nothing."""

    says: ClassVar = (ProductRegistered, ProductStockAdded)
    name: str
    price: int
    stock: int


class AddStock(ProductRequest, frozen=True):
    """Take `quantity` more pieces into the stock of a registered product, once per idempotency key."""

    says: ClassVar = (ProductStockAdded,)
    quantity: int
    idempotency_key: str


Command = Register | AddStock


class RegisteredDifferently(Exception):
    """The product to register is registered already, with another name, price or first stock."""


class NoSuchProduct(Exception):
    """The product whose stock is to grow is not registered."""


class AddedDifferently(Exception):
    """This idempotency key was used before, to add another quantity to this product."""


class AddedTooMuch(Exception):
    """All stock that ever came in for this product would together exceed MOST."""


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """One product. `name`: None until it is registered. `available`: pieces that no order holds.

    `first_stock`: pieces at registration. `added` maps each idempotency key to the quantity added under the key.

    The size of the state does not grow with orders: each order's Reservation keeps the order's answer.
    """

    name: str | None = None
    price: int = 0
    first_stock: int = 0
    available: int = 0
    added: dict[str, int] = field(default_factory=dict)


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
        case AddStock(product_id, quantity, key):
            if state.name is None:
                raise NoSuchProduct(product_id)
            if key in state.added:
                if state.added[key] != quantity:
                    raise AddedDifferently(key)
                return ()  # added already
            if state.first_stock + sum(state.added.values()) + quantity > MOST:
                raise AddedTooMuch(product_id)
            return (
                ProductStockAdded(product_id=product_id, quantity=quantity, idempotency_key=key, **command.stamp()),
            )
        case _:
            assert_never(command)


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event) -> None:
    match event:
        case ProductStockHeld():
            state.available -= event.quantity
        case ProductStockReturned():
            state.available += event.quantity
        case ProductStockAdded():
            state.available += event.quantity
            if event.idempotency_key is None:
                state.first_stock = event.quantity
            else:
                state.added[event.idempotency_key] = event.quantity
        case ProductRegistered():
            state.name = event.name
            state.price = event.price
        case _:
            assert_never(event)
