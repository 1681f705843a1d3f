"""The facts that product_svc says: the products' stock ledgers, the answers to orders and those about added stock.

An answer is in a stream of its own, so that a product's state does not grow with them. Older code recorded those about
added stock in the product's stream, and no ProductStockReceived beside them.
"""

from typing import ClassVar, Final

from contracts.fact import Count, Fact, PricedFact, ProductRefusal, SagaFact
from contracts.ids import keyed_id
from contracts.order import OrderCreatedPending
from contracts.step import Step


class ProductFact(Fact, frozen=True, kw_only=True):
    """Base of the facts about a product and its stock. The subject ends in the product's id, as `wire.token` has it."""

    key_field: ClassVar[str] = "product_id"

    product_id: str

    @property
    def stream(self) -> str:
        return f"product-{self.product_id}"


class ProductRegistered(ProductFact, frozen=True, kw_only=True, tag="product.registered"):
    """A product is on sale at `price` won. Its first stock, unless it is 0, is a ProductStockAdded."""

    by_client: ClassVar[bool] = True

    name: str
    price: Count


class ProductStockAdded(ProductFact, frozen=True, kw_only=True, tag="product.stock.added"):
    """`quantity` pieces came in. `idempotency_key` is the request's, made at random if the client sent none.

    The key is null only for the stock at registration. A fact without a key is in the product's stream, a fact with a
    key in the stream of its addition; older code recorded both in the product's stream.
    """

    by_client: ClassVar[bool] = True

    quantity: Count
    idempotency_key: str | None = None

    @property
    def stream(self) -> str:
        key = self.idempotency_key
        return f"product-{self.product_id}" if key is None else f"addition-{keyed_id(self.product_id, key)}"

    @property
    def earlier_stream(self) -> str:
        return f"product-{self.product_id}"


class ProductStockReceived(ProductFact, frozen=True, kw_only=True, tag="product.stock.received"):
    """`quantity` pieces are available in addition: stock was added with this `idempotency_key`."""

    by_client: ClassVar[bool] = True
    implied: ClassVar[bool] = True

    quantity: Count
    idempotency_key: str


class ProductStockHeld(ProductFact, frozen=True, kw_only=True, tag="product.stock.held"):
    """An order's reservation holds `quantity` pieces of this product: they are no longer available to other orders."""

    order_id: str
    quantity: Count


class ProductStockReturned(ProductFact, frozen=True, kw_only=True, tag="product.stock.returned"):
    """An order no longer holds `quantity` pieces of this product: they are available again."""

    order_id: str
    quantity: Count


class ReservationFact(SagaFact, frozen=True, kw_only=True):
    """Base of the facts of one order's reservation."""

    @property
    def stream(self) -> str:
        return f"reservation-{self.order_id}"


class ProductReserved(ReservationFact, PricedFact, frozen=True, kw_only=True, tag="product.reserved"):
    """Every line of the order is held, and priced."""


class ProductReserveFailed(ReservationFact, frozen=True, kw_only=True, tag="product.reserve.failed"):
    """A line could not be held, so no line was. `product_id` and `reason` are those of the first such line."""

    product_id: str
    reason: ProductRefusal


class ProductReleased(ReservationFact, frozen=True, kw_only=True, tag="product.released"):
    """Compensation: every line that the order held has been given back."""


class ProductReserveVoided(ReservationFact, frozen=True, kw_only=True, tag="product.reserve.voided"):
    """Fence: the order was over before product_svc answered it, and will never hold stock."""


ProductSays = (
    ProductRegistered
    | ProductStockAdded
    | ProductStockReceived
    | ProductStockHeld
    | ProductStockReturned
    | ProductReserved
    | ProductReserveFailed
    | ProductReleased
    | ProductReserveVoided
)

STEP: Final = Step(
    hears=OrderCreatedPending,
    done=ProductReserved,
    refused=ProductReserveFailed,
    undone=ProductReleased,
    fenced=ProductReserveVoided,
    returned=(ProductStockReturned,),
)
