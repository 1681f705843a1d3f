"""Products: register, add stock, look."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated

from litestar import get, post
from litestar.params import JSONBody, QueryParameter
from litestar.response import Response
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from infra.http.parameters import After, Amount, Id, IdempotencyKey, Name, PageSize, PathId, Price, replayable
from infra.http.problems import Problem, invalid, problems
from infra.process.service import Runtime
from infra.timestamps import instant
from product_svc.domain import product
from product_svc.popular import RANKING, Popular

RESERVED_IDS = frozenset({"popular"})
"""Words that are routes below /products."""


Days = Annotated[int, QueryParameter(ge=1, le=90)]
Ranks = Annotated[int, QueryParameter(ge=1, le=100)]


class RegisterProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """A product at `price` won with a first `stock`."""

    product_id: Id
    name: Name
    price: Price
    stock: Annotated[int, Meta(ge=0, le=10**12)]


class AddStock(Struct, frozen=True, forbid_unknown_fields=True):
    quantity: Amount


class ProductView(Struct):
    """`available` pieces are in stock and not held by an order; `price` in won."""

    product_id: str
    name: str
    price: int
    available: int


class ProductPage(Struct):
    """Products by id; `next` is the `after` of the next page, null on the last one."""

    products: list[ProductView]
    next: str | None


class PopularProduct(Struct):
    """`quantity` pieces were sold, the last of them at `newest_sale`."""

    product_id: str
    name: str
    quantity: int
    newest_sale: datetime


class PopularProducts(Struct, rename={"from_": "from"}):
    """The ranking of the days `from` to `to`, as they are in `time_zone`."""

    time_zone: str
    from_: date
    to: date
    products: list[PopularProduct]


def routes(runtime: Runtime) -> Sequence[ControllerRouterHandler]:
    settings, writer, catalog, ranking = (
        runtime.settings,
        runtime.writer,
        runtime.views["catalog"],
        runtime.views["popular"],
    )
    popular = Popular(settings.shop_tz)

    @post("/products", tags=["products"], summary="Register a product", responses=problems(400, 409, 503))
    async def register(data: JSONBody[RegisterProduct]) -> Response[ProductView]:
        if data.product_id in RESERVED_IDS:
            raise invalid("product_id", "body", f"`{data.product_id}` is reserved")
        command = product.Register(data.product_id, data.name, data.price, data.stock, at=runtime.clock())
        try:
            answer = await writer.execute(command)
        except product.RegisteredDifferently:
            raise Problem(
                409, "product-exists", "this product is registered with another name, price or first stock"
            ) from None
        return Response(_view(data.product_id, answer.states[0]), status_code=201 if answer.facts else 200)

    @post(
        "/products/{product_id:str}/stock",
        tags=["products"],
        summary="Add stock, once per Idempotency-Key",
        responses=problems(400, 404, 422, 503),
    )
    async def add_stock(
        product_id: PathId, data: JSONBody[AddStock], idempotency_key: IdempotencyKey = None
    ) -> Response[ProductView]:
        key, headers = replayable(idempotency_key)
        try:
            answer = await writer.execute(product.AddStock(product_id, data.quantity, key, at=runtime.clock()))
        except product.NoSuchProduct:
            raise _unknown() from None
        except product.AddedDifferently:
            raise Problem(
                422, "idempotency-key-reused", "this Idempotency-Key was used for a different quantity"
            ) from None
        except product.AddedTooMuch:
            raise Problem(422, "stock-full", "all stock of a product together may be at most 2^53 - 1") from None
        return Response(_view(product_id, answer.states[0]), status_code=201, headers=headers(answer))

    @get(
        "/products/{product_id:str}",
        tags=["products"],
        summary="A product's price and available stock",
        responses=problems(400, 404, 503),
    )
    async def show(product_id: PathId) -> ProductView:
        (state,) = await writer.read([f"product-{product_id}"])
        if state.name is None:
            raise _unknown()
        return _view(product_id, state)

    @get("/products", tags=["products"], summary="All products, by id, in pages", responses=problems(400, 503))
    async def show_all(
        limit: PageSize = 50,
        after: After = "",
    ) -> ProductPage:
        rows = await catalog.select(
            "SELECT product_id FROM products WHERE product_id > ? ORDER BY product_id LIMIT ?", (after, limit + 1)
        )
        ids = [str(row[0]) for row in rows[:limit]]
        states = await writer.read([f"product-{product_id}" for product_id in ids])
        return ProductPage(
            [_view(product_id, state) for product_id, state in zip(ids, states, strict=True)],
            ids[-1] if len(rows) > limit else None,
        )

    @get(
        "/products/popular",
        tags=["products"],
        summary="The products sold most in the last days",
        description=(
            "Ranked by pieces in confirmed orders, over the last `days` days of the shop (SHOP_TZ), today included; "
            "equals by their newest sale. Orders canceled later do not count. Trails the orders a little."
        ),
        responses=problems(400, 503),
    )
    async def show_popular(days: Days = 3, limit: Ranks = 5) -> PopularProducts:
        last = popular.day(runtime.clock())
        rows = await ranking.select(RANKING, (last - days + 1, last, limit))
        states = await writer.read([f"product-{product_id}" for product_id, _, _ in rows])
        return PopularProducts(
            settings.shop_tz,
            date.fromordinal(last - days + 1),
            date.fromordinal(last),
            [
                PopularProduct(product_id, state.name or "", pieces, instant(newest))
                for (product_id, pieces, newest), state in zip(rows, states, strict=True)
            ],
        )

    return [register, add_stock, show_popular, show, show_all]


def _view(product_id: str, state: product.State) -> ProductView:
    return ProductView(product_id, state.name or "", state.price, state.available)


def _unknown() -> Problem:
    return Problem(404, "product-not-found", "there is no such product")
