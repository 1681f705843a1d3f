"""`python -m bench.systems.monolith`: the shop before it was split, `place` one PostgreSQL transaction behind FastAPI.

Rows of products and accounts are locked; a coupon is taken optimistically by its version. The environment has the
settings: DSN, PORT.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import asyncpg
import uvicorn
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

SCHEMA: Final = Path(__file__).with_name("schema.sql")
CONNECTIONS: Final = 16  # to PostgreSQL
KEEP_ALIVE_S: Final = 75  # of an idle client; with uvicorn's 5 s an open loop would lose connections

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Refused(Exception):
    """The order cannot be placed; the message is the reason. The transaction is rolled back."""


# Bodies ---------------------------------------------------------------------------------------------------------------


class Product(BaseModel):
    product_id: Id
    name: str
    price: int = Field(ge=1)
    stock: int = Field(ge=0)


class Charge(BaseModel):
    amount: int = Field(ge=1)


class Coupon(BaseModel):
    coupon_id: Id
    user_id: Id
    discount: int = Field(ge=1)
    expires_at: datetime


class Line(BaseModel):
    product_id: Id
    quantity: int = Field(ge=1, le=1_000)


class PlaceOrder(BaseModel):
    lines: list[Line] = Field(min_length=1, max_length=100)
    points: int = Field(ge=0, default=0)
    coupon_id: Id | None = None


class PlacedLine(Line):
    unit_price: int


class Placed(BaseModel):
    order_id: str
    status: str
    lines: list[PlacedLine]
    total: int
    points: int
    coupon_id: str | None
    discount: int
    amount_due: int
    placed_at: datetime


class ProductView(BaseModel):
    product_id: str
    name: str
    price: int
    available: int


class AccountView(BaseModel):
    user_id: str
    balance: int


class CouponView(BaseModel):
    coupon_id: str
    order_id: str | None


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
    async with asyncpg.create_pool(os.environ["DSN"], min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute(SCHEMA.read_text())
        app.state.pool, app.state.facade = pool, OrderFacade(pool)
        yield


app: Final = FastAPI(lifespan=_lifespan)


@app.exception_handler(Refused)
async def _refused(_: Request, refused: Refused) -> JSONResponse:
    body = {"type": f"/problems/{refused}", "title": str(refused), "status": 409}
    return JSONResponse(body, 409, media_type="application/problem+json")


@app.get("/readyz")
async def readyz() -> dict[str, bool]:
    return {"ready": True}


@app.post("/orders")
async def place(wanted: PlaceOrder, x_user_id: Annotated[str, Header()]) -> Placed:
    facade: OrderFacade = app.state.facade
    return await facade.place(x_user_id, wanted)


@app.post("/products", status_code=201)
async def register(product: Product) -> ProductView:
    await app.state.pool.execute(
        "INSERT INTO products VALUES ($1, $2, $3, $4)",
        product.product_id,
        product.name,
        product.price,
        product.stock,
    )
    return ProductView(product_id=product.product_id, name=product.name, price=product.price, available=product.stock)


@app.get("/products/{product_id}")
async def show_product(product_id: str) -> ProductView:
    row = await app.state.pool.fetchrow("SELECT name, price, stock FROM products WHERE product_id = $1", product_id)
    return ProductView(product_id=product_id, name=row["name"], price=row["price"], available=row["stock"])


@app.post("/points/{user_id}/charge", status_code=201)
async def charge(user_id: str, charged: Charge) -> AccountView:
    async with app.state.pool.acquire() as db, db.transaction():
        balance = await db.fetchval(
            "INSERT INTO accounts VALUES ($1, $2)"
            " ON CONFLICT (user_id) DO UPDATE SET balance = accounts.balance + $2 RETURNING balance",
            user_id,
            charged.amount,
        )
        await db.execute(
            "INSERT INTO point_history (user_id, amount, at) VALUES ($1, $2, now())", user_id, charged.amount
        )
    return AccountView(user_id=user_id, balance=balance)


@app.get("/points/{user_id}")
async def show_account(user_id: str) -> AccountView:
    balance = await app.state.pool.fetchval("SELECT balance FROM accounts WHERE user_id = $1", user_id)
    return AccountView(user_id=user_id, balance=balance or 0)


@app.post("/coupons", status_code=201)
async def issue(coupon: Coupon) -> CouponView:
    await app.state.pool.execute(
        "INSERT INTO coupons (coupon_id, user_id, discount, expires_at) VALUES ($1, $2, $3, $4)",
        coupon.coupon_id,
        coupon.user_id,
        coupon.discount,
        coupon.expires_at,
    )
    return CouponView(coupon_id=coupon.coupon_id, order_id=None)


@app.get("/coupons/{coupon_id}")
async def show_coupon(coupon_id: str) -> CouponView:
    order_id = await app.state.pool.fetchval("SELECT order_id FROM coupons WHERE coupon_id = $1", coupon_id)
    return CouponView(coupon_id=coupon_id, order_id=None if order_id is None else str(order_id))


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
    )
