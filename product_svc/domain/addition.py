"""An addition takes pieces into a product's stock, once per idempotency key. One decision covers it and the product."""

from typing import ClassVar, assert_never

from msgspec import Struct

from contracts.command import Request
from contracts.fact import MOST
from contracts.ids import keyed_id
from contracts.product import ProductStockAdded, ProductStockReceived
from product_svc.domain import product

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = ProductStockAdded


# Commands -------------------------------------------------------------------------------------------------------------
class AddStock(Request, frozen=True):
    """Take `quantity` more pieces into the stock of a registered product, once per idempotency key."""

    says: ClassVar = (ProductStockReceived, ProductStockAdded)
    product_id: str
    quantity: int
    idempotency_key: str

    @property
    def streams(self) -> tuple[str, ...]:
        return (addition_stream(self.product_id, self.idempotency_key), f"product-{self.product_id}")


Command = AddStock


def addition_stream(product_id: str, key: str) -> str:
    return f"addition-{keyed_id(product_id, key)}"


class NoSuchProduct(Exception):
    """The product whose stock is to grow is not registered."""


class AddedDifferently(Exception):
    """This idempotency key was used before, to add another quantity to this product."""


class AddedTooMuch(Exception):
    """With this addition, all stock that ever came in for the product would exceed MOST."""


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """What was added with one idempotency key of a product: `quantity` in pieces, None until there is an addition."""

    quantity: int | None = None


# Decide ---------------------------------------------------------------------------------------------------------------
def decide(command: Command, state: State, of_product: product.State) -> tuple[Event | product.Event, ...]:
    match command:
        case AddStock(product_id, quantity, key):
            if of_product.name is None:
                raise NoSuchProduct(product_id)
            if state.quantity is not None:
                if state.quantity != quantity:
                    raise AddedDifferently(key)
                return ()  # added already
            if of_product.first_stock + of_product.added + quantity > MOST:
                raise AddedTooMuch(product_id)
            return (
                ProductStockReceived(product_id=product_id, quantity=quantity, idempotency_key=key, **command.stamp()),
                ProductStockAdded(product_id=product_id, quantity=quantity, idempotency_key=key, **command.stamp()),
            )
        case _:
            assert_never(command)


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event) -> None:
    match event:
        case ProductStockAdded():
            state.quantity = event.quantity
        case _:
            assert_never(event)
