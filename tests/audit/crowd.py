"""A day of orders of every kind, by a crowd of clients that repeat a request until they have its end."""

import asyncio
import contextlib
import copy
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple, ParamSpec, TypeVar

import httpx

from order_svc.ids import order_id
from tests.shop import PATIENCE_S, Shop, attempts

ORDERS: Final = 2_000
CLIENTS: Final = 64
CUSTOMERS: Final = 50
PRODUCTS: Final = 30
RARE: Final = 40
"""Pieces of the product that more customers want than can have it."""
PLENTY: Final = 10_000_000
VALID: Final = "2099-01-01T00:00:00Z"
PAST: Final = "2020-01-01T00:00:00Z"
LATE: Final = 12
"""Orders placed while the coupon service is away, so that they are pending for certain when they are canceled."""


Thing = TypeVar("Thing")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class Wish(NamedTuple):
    """An order that a customer will place. `kind`: the refusal that it must get, or the name of its special case."""

    kind: str
    user: str
    lines: tuple[tuple[str, int], ...]
    points: int
    coupon: str | None
    key: str


class Answered(NamedTuple):
    """A wish and its answer. `end`: CONFIRMED, or the reason of the cancel, as the client was answered."""

    wish: Wish
    order_id: str
    end: str


class Crowd:
    def __init__(self, shop: Shop, clients: Sequence[Shop], seed: int) -> None:
        """`clients`: the shop as each client sees it."""
        self._shop = shop
        self._clients = clients
        self._random = random.Random(seed)
        self.answers: list[Answered] = []
        self.products = ["rare", "sold-out", *(f"product{number}" for number in range(PRODUCTS))]
        self.users = [f"customer{number}" for number in range(CUSTOMERS)]
        self.poor = [f"poor{number}" for number in range(5)]
        self.coupons: list[str] = []
        self._wishes = self._make_wishes()

    async def each(self, things: Iterable[Thing], ask: Callable[[Shop, Thing], Awaitable[Result]]) -> list[Result]:
        """The answers about each thing. Every client takes the next thing as soon as it has its answer."""
        numbered = list(enumerate(things))
        queue = iter(numbered)
        results: dict[int, Result] = {}

        async def work(client: Shop) -> None:
            for number, thing in queue:
                results[number] = await patiently(ask, client, thing)

        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(work(client))
        return [results[number] for number, _ in numbered]

    # Before the day ---------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Register goods, points and coupons. Of a customer's coupons one is spent, one has expired and one is kept."""
        some, stock = self._random, {"rare": RARE, "sold-out": 0}
        products = [(product, some.randrange(1_000, 20_000), stock.get(product, PLENTY)) for product in self.products]
        coupons = [
            *((f"{user}-spent", user, 300, VALID) for user in self.users),
            *((f"{user}-stale", user, 300, PAST) for user in self.users),
            *((f"{user}-kept", user, 300, VALID) for user in self.users),
            *(
                (wish.coupon, wish.user, some.choice([1, 300, 1_000_000]), VALID)
                for wish in self._wishes
                if wish.kind == "fine" and wish.coupon is not None
            ),
        ]
        self.coupons = [coupon for coupon, *_ in coupons]
        await self.each(products, lambda client, product: client.register(*product))
        await self.each(self.users, lambda client, user: client.charge(user, PLENTY))
        await self.each(coupons, lambda client, coupon: client.issue(*coupon))
        spends = [Wish("fine", user, (("product0", 1),), 0, f"{user}-spent", f"{user}-spends") for user in self.users]
        await self.each(spends, self._serve)

    def _make_wishes(self) -> list[Wish]:
        per_thousand = {
            "coupon-unknown": 25,
            "coupon-already-used": 25,
            "coupon-expired": 25,
            "coupon-not-yours": 25,
            "points-insufficient": 40,
            "points-exceed-total": 10,
            "product-out-of-stock": 40,
            "product-unknown": 10,
            "rare": 30,
            "regretted": 10,
            "interrupted": 10,
            "repeated": 20,
        }
        kinds = [kind for kind, count in per_thousand.items() for _ in range(count * ORDERS // 1_000)]
        kinds += ["fine"] * (ORDERS - len(kinds))
        self._random.shuffle(kinds)
        return [self._wish(kind, number) for number, kind in enumerate(kinds)]

    def _wish(self, kind: str, number: int) -> Wish:
        some = self._random
        user = some.choice(self.users)
        products = some.sample(self.products[2:], some.choice([1, 1, 1, 2, 3, 5]))
        lines = [(product, some.randrange(1, 4)) for product in products]
        points = some.choice([0, 10, 1_000])
        coupon = some.choice([None, None, f"gift{number}"]) if kind == "fine" else None
        match kind:
            case "coupon-unknown":
                coupon = "no-such-coupon"
            case "coupon-already-used":
                coupon = f"{user}-spent"
            case "coupon-expired":
                coupon = f"{user}-stale"
            case "coupon-not-yours":
                coupon = next(f"{other}-kept" for other in some.sample(self.users, 2) if other != user)
            case "points-insufficient":
                user, points = some.choice(self.poor), 1_000
            case "points-exceed-total":
                points = 1_000_000_000
            case "product-out-of-stock":
                lines.insert(some.randrange(len(lines) + 1), ("sold-out", 1))
            case "product-unknown":
                lines.append(("no-such-product", 1))
            case "rare":
                lines = [("rare", 1)]
        return Wish(kind, user, tuple(lines), points, coupon, f"order-{number}")

    # The day ----------------------------------------------------------------------------------------------------------

    async def shop_till_closing(self) -> None:
        await self.each(self._wishes, self._serve)
        await self._shop.stop("coupon")
        late = [Wish("late", user, (("product1", 1),), 100, None, f"late-{user}") for user in self.users[:LATE]]
        await self.each(late, self._serve)
        await self._shop.start("coupon")

    async def _serve(self, client: Shop, wish: Wish) -> None:
        match wish.kind:
            case "regretted":
                answered = await place(client, wish)
                await cancel(client, wish)
            case "interrupted" | "late":
                answered, _ = await asyncio.gather(place(client, wish), cancel(client, wish))
            case "repeated":
                answered = await place_thrice(client, wish)
            case _:
                answered = await place(client, wish)
        self.answers.append(answered)


async def place(client: Shop, wish: Wish) -> Answered:
    """Place the order again and again until its first end is known."""
    async for _ in attempts(f"the end of {wish}"):
        answer = await post(client, wish)
        if answer.status_code != 202:
            return _answered(wish, answer)
    raise AssertionError


async def place_thrice(client: Shop, wish: Wish) -> Answered:
    """Place the order twice at once and once again; then place another one under its key."""
    one, other = await asyncio.gather(place(client, wish), place(client, wish))
    again = await place(client, wish)
    assert one == other == again
    assert (await post(client, wish._replace(points=wish.points + 1))).status_code == 422
    return again


async def post(client: Shop, wish: Wish) -> httpx.Response:
    ask = functools.partial(client.place, user=wish.user, points=wish.points, coupon=wish.coupon, key=wish.key)
    return await patiently(ask, wish.lines)


async def cancel(client: Shop, wish: Wish) -> None:
    """Cancel the order as soon as it exists."""
    ask = functools.partial(client.post, "order", user=wish.user)
    async for _ in attempts(f"the order of {wish}"):
        answer = await patiently(ask, f"/orders/{order_id(wish.user, wish.key)}/cancel")
        if answer.status_code != 404:
            assert answer.json()["status"] == "CANCELED"
            return


async def patiently(
    ask: Callable[Arguments, Awaitable[Result]], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Ask until there is an answer.

    A busy service answers 503. A service that closes an idle connection may do so while a request is being sent on it.
    In both cases the client has to ask again.
    """
    async for _ in attempts("an answer"):
        try:
            answer = await ask(*args, **kwargs)
        except httpx.TransportError:
            continue
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 503:
                raise
            continue
        if not (isinstance(answer, httpx.Response) and answer.status_code == 503):
            return answer
    raise AssertionError


@contextlib.asynccontextmanager
async def open_crowd(shop: Shop, seed: int) -> AsyncIterator[Crowd]:
    """A crowd. Each client has connections of its own: one pool for all would cost more time than the orders do."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [copy.copy(shop) for _ in range(CLIENTS)]
        for client in clients:
            http = httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, verify=False)
            client.http = await stack.enter_async_context(http)
        yield Crowd(shop, clients, seed)


def _answered(wish: Wish, answer: httpx.Response) -> Answered:
    body = answer.json()
    if answer.status_code == 200:
        assert body["status"] == "CONFIRMED"
        return Answered(wish, body["order_id"], "CONFIRMED")
    assert answer.status_code == 409, answer.text
    return Answered(wish, body["order_id"], body["type"].removeprefix("/problems/"))
