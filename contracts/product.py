"""The facts that product_svc says: the stock ledger of each product, and the reservation of each order."""

from typing import ClassVar, Final

from contracts.fact import Fact, PricedFact, ProductRefusal, SagaFact
from contracts.order import OrderCreatedPending
from contracts.step import Step


class ProductFact(Fact, frozen=True, kw_only=True):
    """A fact of one product's ledger. Published under the product's id."""

    key_field: ClassVar[str] = "product_id"

    product_id: str

    @property
    def stream(self) -> str:
        return f"product-{self.product_id}"


class ProductRegistered(ProductFact, frozen=True, kw_only=True, tag="product.registered"):
    """A product is on sale at `price` won."""

    by_client: ClassVar[bool] = True

    name: str
    price: int


class ProductStockAdded(ProductFact, frozen=True, kw_only=True, tag="product.stock.added"):
    """Stock came in. `idempotency_key` is the client's; null for the stock a product was registered with."""

    by_client: ClassVar[bool] = True

    quantity: int
    idempotency_key: str | None = None


class ProductStockHeld(ProductFact, frozen=True, kw_only=True, tag="product.stock.held"):
    """An order's reservation took `quantity` pieces of this product."""

    order_id: str
    quantity: int


class ProductStockReturned(ProductFact, frozen=True, kw_only=True, tag="product.stock.returned"):
    """An order's release gave `quantity` pieces of this product back."""

    order_id: str
    quantity: int


class ReservationFact(SagaFact, frozen=True, kw_only=True):
    """A fact of one order's reservation."""

    @property
    def stream(self) -> str:
        return f"reservation-{self.order_id}"


class ProductReserved(ReservationFact, PricedFact, frozen=True, kw_only=True, tag="product.reserved"):
    """Every line of the order is held."""


class ProductReserveFailed(ReservationFact, frozen=True, kw_only=True, tag="product.reserve.failed"):
    """A line could not be held, so no line was. `product_id` is that of the first such line."""

    product_id: str
    reason: ProductRefusal


class ProductReleased(ReservationFact, frozen=True, kw_only=True, tag="product.released"):
    """Compensation: every line that was held has been given back."""


class ProductReserveVoided(ReservationFact, frozen=True, kw_only=True, tag="product.reserve.voided"):
    """Fence: the order was over before it reached the products, and will never be reserved."""


ProductSays = (
    ProductRegistered
    | ProductStockAdded
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
