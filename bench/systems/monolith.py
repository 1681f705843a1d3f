"""`python -m bench.systems.monolith`: the shop before it was split, `place` one PostgreSQL transaction behind FastAPI.

Rows of products and accounts are locked; a coupon is taken optimistically by its version. The environment has the
settings: DSN, PORT.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import asyncpg
from fastapi import FastAPI, Header

from bench.systems import goods
from bench.systems.bodies import Line, Placed, PlacedLine, PlaceOrder, Refused, refused, serve

# The facade -----------------------------------------------------------------------------------------------------------


@dataclass
class _Transaction:
    """One order, from its creation to its confirmation; the caller commits it or rolls it back."""

    db: Any
    user_id: str
    order_id: int
    now: datetime

    async def take_stock(self, line: Line) -> PlacedLine:
        product = await self.db.fetchrow(
            "SELECT price, stock FROM products WHERE product_id = $1 FOR UPDATE", line.product_id
        )
        if product is None:
            raise Refused("product-unknown")
        if product["stock"] < line.quantity:
            raise Refused("product-out-of-stock")
        await self.db.execute(
            "UPDATE products SET stock = stock - $2 WHERE product_id = $1", line.product_id, line.quantity
        )
        await self.db.execute(
            "INSERT INTO order_lines (order_id, product_id, quantity, unit_price) VALUES ($1, $2, $3, $4)",
            self.order_id,
            line.product_id,
            line.quantity,
            product["price"],
        )
        return PlacedLine(product_id=line.product_id, quantity=line.quantity, unit_price=product["price"])

    async def use_points(self, points: int, total: int) -> None:
        balance = await self.db.fetchval("SELECT balance FROM accounts WHERE user_id = $1 FOR UPDATE", self.user_id)
        if points > total:
            raise Refused("points-exceed-total")
        if points > (balance or 0):
            raise Refused("points-insufficient")
        await self.db.execute("UPDATE accounts SET balance = balance - $2 WHERE user_id = $1", self.user_id, points)
        await self.db.execute(
            "INSERT INTO point_history (user_id, order_id, amount, at) VALUES ($1, $2, $3, $4)",
            self.user_id,
            self.order_id,
            -points,
            self.now,
        )

    async def use_coupon(self, coupon_id: str | None, left: int) -> int:
        """The discount: never more than is left to pay."""
        if coupon_id is None:
            return 0
        coupon = await self.db.fetchrow(
            "SELECT user_id, discount, expires_at, order_id, version FROM coupons WHERE coupon_id = $1", coupon_id
        )
        if coupon is None:
            raise Refused("coupon-unknown")
        if coupon["user_id"] != self.user_id:
            raise Refused("coupon-not-yours")
        if coupon["order_id"] is not None:
            raise Refused("coupon-already-used")
        if self.now >= coupon["expires_at"]:
            raise Refused("coupon-expired")
        taken = await self.db.execute(
            "UPDATE coupons SET order_id = $2, version = version + 1 WHERE coupon_id = $1 AND version = $3",
            coupon_id,
            self.order_id,
            coupon["version"],
        )
        if taken != "UPDATE 1":
            raise Refused("coupon-already-used")
        return min(int(coupon["discount"]), left)


class OrderFacade:
    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool

    async def place(self, user_id: str, wanted: PlaceOrder) -> Placed:
        """Create the order, take the stock, use the points, use the coupon: all or nothing. Raises Refused."""
        async with self._pool.acquire() as db, db.transaction():
            now = datetime.now(UTC)
            order_id = await db.fetchval(
                "INSERT INTO orders (user_id, status, coupon_id, points, placed_at)"
                " VALUES ($1, 'PENDING', $2, $3, $4) RETURNING order_id",
                user_id,
                wanted.coupon_id,
                wanted.points,
                now,
            )
            order = _Transaction(db, user_id, order_id, now)
            in_order = sorted(wanted.lines, key=lambda line: line.product_id)  # or two orders could deadlock
            lines = [await order.take_stock(line) for line in in_order]
            total = sum(line.unit_price * line.quantity for line in lines)
            await order.use_points(wanted.points, total)
            discount = await order.use_coupon(wanted.coupon_id, total - wanted.points)
            amount_due = total - wanted.points - discount
            await db.execute(
                "UPDATE orders SET status = 'CONFIRMED', total = $2, discount = $3, amount_due = $4"
                " WHERE order_id = $1",
                order_id,
                total,
                discount,
                amount_due,
            )
        return Placed(
            order_id=str(order_id),
            status="CONFIRMED",
            lines=lines,
            total=total,
            points=wanted.points,
            coupon_id=wanted.coupon_id,
            discount=discount,
            amount_due=amount_due,
            placed_at=now,
        )


# HTTP -----------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with goods.shop(os.environ["DSN"]) as pool:
        app.state.pool, app.state.facade = pool, OrderFacade(pool)
        yield


app: Final = FastAPI(lifespan=_lifespan, exception_handlers={Refused: refused})
app.include_router(goods.router)


@app.post("/orders")
async def place(wanted: PlaceOrder, x_user_id: Annotated[str, Header()]) -> Placed:
    facade: OrderFacade = app.state.facade
    return await facade.place(x_user_id, wanted)


if __name__ == "__main__":
    serve(app)
