"""A rush of orders of every kind at once, by customers who repeat their request until somebody answers."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import httpx

from contracts.wire import FACTS
from ops.invariants import check
from tests.shop import Shop, attempts

CONFIRMED = (
    "order.created.pending",
    "product.stock.held",
    "product.reserved",
    "point.used",
    "coupon.used",
    "order.confirmed",
)
PRODUCT_REFUSED = ("order.created.pending", "product.reserve.failed", "order.canceled")
POINT_REFUSED = (
    "order.created.pending",
    "product.stock.held",
    "product.reserved",
    "point.use.failed",
    "product.stock.returned",
    "product.released",
    "order.canceled",
)
COUPON_REFUSED = (
    "order.created.pending",
    "product.stock.held",
    "product.reserved",
    "point.used",
    "coupon.use.failed",
    "point.refunded",
    "product.stock.returned",
    "product.released",
    "order.canceled",
)

EXPECTED = {"fine": CONFIRMED, "stock": PRODUCT_REFUSED, "points": POINT_REFUSED, "coupon": COUPON_REFUSED}
KINDS = ("fine", "fine", "fine", "stock", "points", "coupon")
CLIENTS = 12
"""At a time: few enough that the orders of a short rush don't all meet in one commit."""
STOCK, BALANCE, PRICE, POINTS = 10_000, 1_000_000, 1_000, 10


class Placed(NamedTuple):
    kind: str
    order_id: str


class Rush:
    """`count` orders by ten customers; the goods come in with `prepare`, the orders go out with `place`."""

    def __init__(self, shop: Shop, count: int) -> None:
        self.shop = shop
        self.count = count
        self.placed: list[Placed] = []

    async def prepare(self) -> None:
        await self.shop.register("plenty", PRICE, STOCK)
        await self.shop.register("none", PRICE, 0)
        await asyncio.gather(*(self.shop.charge(f"customer{n}", BALANCE) for n in range(10)))

    async def place(self, numbers: Iterable[int] | None = None) -> None:
        """Place these of them, or all, and learn their ids; 202 counts as an answer."""
        at_a_time = asyncio.Semaphore(CLIENTS)

        async def one(number: int) -> Placed:
            async with at_a_time:
                return await self._place(number)

        self.placed += await asyncio.gather(*(one(n) for n in (range(self.count) if numbers is None else numbers)))

    async def _place(self, number: int) -> Placed:
        kind = KINDS[number % len(KINDS)]
        async for _ in attempts(f"an answer to order {number}"):
            try:
                answer = await self.shop.place(
                    [("none" if kind == "stock" else "plenty", 1)],
                    user=f"customer{number % 10}",
                    points=5_000 if kind == "points" else POINTS,
                    coupon="no-such-coupon" if kind == "coupon" else None,
                    key=f"rush-{number}",
                )
            except httpx.TransportError:
                continue
            if answer.status_code != 503:
                assert answer.status_code in (200, 202, 409), answer.text
                return Placed(kind, answer.json()["order_id"])
        raise AssertionError

    async def facts(self) -> dict[str, list[str]]:
        """Each order's facts, sorted by name, from the stream; asserts that none stands there twice."""
        by_order: dict[str, list[str]] = {placed.order_id: [] for placed in self.placed}
        events = await self.shop.events()
        repeated = [fact_id for fact_id, count in Counter(event.fact_id for event in events).items() if count > 1]
        assert not repeated
        for event in events:
            if event.body.get("order_id") in by_order and not FACTS[event.fact].implied:  # the audit judges ledgers
                by_order[event.body["order_id"]].append(event.fact)
        return {order_id: sorted(facts) for order_id, facts in by_order.items()}

    async def assert_settled(self) -> None:
        """Every order has exactly the facts of its kind, and what it took, kept or got back adds up."""
        await self.shop.until_quiet()
        assert await self.facts() == {placed.order_id: sorted(EXPECTED[placed.kind]) for placed in self.placed}
        fine = sum(placed.kind == "fine" for placed in self.placed)
        assert await self.shop.available("plenty") == STOCK - fine
        assert await self.shop.available("none") == 0
        balances = await asyncio.gather(*(self.shop.balance(f"customer{n}") for n in range(10)))
        assert sum(balances) == 10 * BALANCE - POINTS * fine
        await self.assert_every_invariant_holds()

    async def assert_every_invariant_holds(self) -> None:
        """All must be quiet."""
        assert check(*await self.shop.copies(), quiet=True) == []
