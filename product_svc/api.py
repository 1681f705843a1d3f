"""Routes of products: register, add stock, show, list, rank by sales."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Final

from litestar import get, post
from litestar.params import JSONBody, QueryParameter
from litestar.response import Response
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from infra.core.unreadable import read_readable
from infra.http.access import ACCESS, ANY_CALLER
from infra.http.answers import answer, problems
from infra.http.examples import example, example_of
from infra.http.idempotency_key import IdempotencyKey, new_key, read_key, replayable
from infra.http.parameters import After, Amount, Id, Name, PageSize, PathId, Price, Time
from infra.http.problems import Problem, invalid
from infra.process.runtime import Runtime
from infra.timestamps import instant
from product_svc.domain import addition, product
from product_svc.popular import RANKING, Popular

WRITE: Final = "products:write"
"""The scope of who registers products and adds stock."""

RESERVED_IDS = frozenset({"popular"})
"""Ids that no product may have, because they are paths of their own below /products."""

Days = Annotated[int, QueryParameter(ge=1, le=90)]
Ranks = Annotated[int, QueryParameter(ge=1, le=100)]


@example(product_id="mug", name="Mug", price=12_000, stock=10)
class RegisterProduct(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /products`: a product at `price` won, with `stock` pieces at the beginning."""

    product_id: Id
    name: Name
    price: Price
    stock: Annotated[int, Meta(ge=0, le=10**12)]


@example(quantity=100)
class AddedStock(Struct, frozen=True, forbid_unknown_fields=True):
    quantity: Amount


@example(product_id="mug", name="Mug", price=12_000, available=10)
class ProductView(Struct):
    """A product as it is now. `price` in won; `available`: pieces in stock that no order holds."""

    product_id: str
    name: str
    price: int
    available: int


@example(products=[example_of(ProductView)], next=None)
class ProductPage(Struct):
    """A page of all products, sorted by id. `next`: the `after` of the next page, null on the last one.

    `unreadable`: the ids of the page's products that cannot be shown now; the route of one product says why.
    """

    products: list[ProductView]
    next: str | None
    unreadable: list[str] = []


@example(product_id="mug", name="Mug", quantity=7, newest_sale=datetime(2026, 1, 31, tzinfo=UTC))
class PopularProduct(Struct):
    """A product in the ranking. `name`: empty if the product cannot be read now.

    `quantity`: pieces sold on the ranking's days; `newest_sale`: time of the last of these sales.
    """

    product_id: str
    name: str
    quantity: int
    newest_sale: Time


@example(time_zone="Asia/Seoul", from_=date(2026, 1, 29), to=date(2026, 1, 31), products=[example_of(PopularProduct)])
class PopularProducts(Struct, rename={"from_": "from"}):
    """The best-selling products of the days `from` to `to`, both included, in `time_zone`; the best first."""

    time_zone: str
    from_: date
    to: date
    products: list[PopularProduct]


class Products:
    """Handles the requests about products; the function `routes` maps paths to these methods."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._writer = runtime.writer
        self._catalog = runtime.views["catalog"]
        self._ranking = runtime.views["popular"]
        self._shop_tz: str = runtime.settings.shop_tz
        self._popular = Popular(self._shop_tz)

    async def register(self, data: JSONBody[RegisterProduct]) -> Response[ProductView]:
        if data.product_id in RESERVED_IDS:
            raise invalid("product_id", "body", f"`{data.product_id}` is reserved")
        command = product.Register(data.product_id, data.name, data.price, data.stock, at=self._runtime.clock())
        try:
            answer = await self._writer.execute(command)
        except product.RegisteredDifferently:
            raise _registered_differently() from None
        return Response(_view(data.product_id, answer.states[0]), status_code=201 if answer.facts else 200)

    async def add_stock(
        self, product_id: PathId, data: JSONBody[AddedStock], idempotency_key: IdempotencyKey = None
    ) -> Response[ProductView]:
        async def is_recorded(key: str) -> bool:
            (state,) = await self._writer.read([addition.addition_stream(product_id, key)])
            return state.quantity is not None

        sent = idempotency_key or new_key()
        key, headers = await read_key(sent, is_recorded), replayable(sent)
        command = addition.AddStock(product_id, data.quantity, key, at=self._runtime.clock())
        try:
            answer = await self._writer.execute(command)
        except addition.NoSuchProduct:
            raise _unknown() from None
        except addition.AddedDifferently:
            raise _added_differently() from None
        except addition.AddedTooMuch:
            raise _added_too_much() from None
        return Response(_view(product_id, answer.states[1]), status_code=201, headers=headers(answer))

    async def show(self, product_id: PathId) -> ProductView:
        (state,) = await self._writer.read([f"product-{product_id}"])
        if state.name is None:
            raise _unknown()
        return _view(product_id, state)

    async def show_all(self, limit: PageSize = 50, after: After = "") -> ProductPage:
        rows = await self._catalog.select(
            "SELECT product_id FROM products WHERE product_id > ? ORDER BY product_id LIMIT ?", (after, limit + 1)
        )
        ids = [str(row[0]) for row in rows[:limit]]
        states = await read_readable(self._writer, [f"product-{product_id}" for product_id in ids])
        found = list(zip(ids, states, strict=True))
        return ProductPage(
            [_view(product_id, state) for product_id, state in found if state is not None],
            ids[-1] if len(rows) > limit else None,
            [product_id for product_id, state in found if state is None],
        )

    async def show_popular(self, days: Days = 3, limit: Ranks = 5) -> PopularProducts:
        last = self._popular.day(self._runtime.clock())
        rows = await self._ranking.select(RANKING, (last - days + 1, last, limit))
        states = await read_readable(self._writer, [f"product-{product_id}" for product_id, _, _ in rows])
        return PopularProducts(
            self._shop_tz,
            date.fromordinal(last - days + 1),
            date.fromordinal(last),
            [
                PopularProduct(product_id, (state and state.name) or "", pieces, instant(newest))
                for (product_id, pieces, newest), state in zip(rows, states, strict=True)
            ],
        )


def routes(runtime: Runtime) -> Sequence[ControllerRouterHandler]:
    products = Products(runtime)
    register = post(
        "/products",
        tags=["products"],
        summary="Register a product",
        opt={ACCESS: WRITE},
        responses=answer(200, ProductView, "It was registered already, by the same request.")
        | problems(400, _registered_differently(), 503),
    )
    add_stock = post(
        "/products/{product_id:str}/stock",
        tags=["products"],
        summary="Add stock, once per Idempotency-Key",
        opt={ACCESS: WRITE},
        responses=problems(400, _unknown(), _added_differently(), _added_too_much(), 503),
    )
    show_popular = get(
        "/products/popular",
        tags=["products"],
        summary="The best-selling products of the last days",
        opt={ACCESS: ANY_CALLER},
        description=(
            "Ranked by pieces in confirmed orders over the last `days` days in SHOP_TZ, today included; ties by the "
            "newest sale. Orders that were canceled later do not count. The ranking is a little behind the orders."
        ),
        responses=problems(400, 503),
    )
    show = get(
        "/products/{product_id:str}",
        tags=["products"],
        summary="A product's price and available stock",
        opt={ACCESS: ANY_CALLER},
        responses=problems(400, _unknown(), 503),
    )
    show_all = get(
        "/products",
        tags=["products"],
        summary="All products, by id, in pages",
        opt={ACCESS: ANY_CALLER},
        responses=problems(400, 503),
    )
    return [
        register(products.register),
        add_stock(products.add_stock),
        show_popular(products.show_popular),
        show(products.show),
        show_all(products.show_all),
    ]


def _view(product_id: str, state: product.State) -> ProductView:
    return ProductView(product_id, state.name or "", state.price, state.available)


def _registered_differently() -> Problem:
    return Problem(409, "product-exists", "this product is registered with another name, price or first stock")


def _added_differently() -> Problem:
    return Problem(422, "idempotency-key-reused", "this Idempotency-Key was used for a different quantity")


def _added_too_much() -> Problem:
    return Problem(422, "stock-full", "all stock of a product together may be at most 2^53 - 1")


def _unknown() -> Problem:
    return Problem(404, "product-not-found", "there is no such product")
