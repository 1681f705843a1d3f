"""Products, accounts and coupons in PostgreSQL, for the systems that have them there: opened and shown, not ordered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
from fastapi import APIRouter, Request

from bench.systems.bodies import AccountView, Charge, Coupon, CouponView, Product, ProductView

SCHEMA: Final = Path(__file__).with_name("schema.sql")
CONNECTIONS: Final = 16  # to PostgreSQL

router: Final = APIRouter()
"""Its routes take their connections from `app.state.pool`."""


@asynccontextmanager
async def shop(dsn: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    """Connections to an empty shop: its tables are made."""
    async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute(SCHEMA.read_text())
        yield pool


def _pool(request: Request) -> "asyncpg.Pool[Any]":
    pool: asyncpg.Pool[Any] = request.app.state.pool
    return pool


@router.get("/readyz")
async def readyz() -> dict[str, bool]:
    return {"ready": True}


@router.post("/products", status_code=201)
async def register(request: Request, product: Product) -> ProductView:
    await _pool(request).execute(
        "INSERT INTO products VALUES ($1, $2, $3, $4)",
        product.product_id,
        product.name,
        product.price,
        product.stock,
    )
    return ProductView(product_id=product.product_id, name=product.name, price=product.price, available=product.stock)


@router.get("/products/{product_id}")
async def show_product(request: Request, product_id: str) -> ProductView:
    row = await _pool(request).fetchrow("SELECT name, price, stock FROM products WHERE product_id = $1", product_id)
    assert row is not None
    return ProductView(product_id=product_id, name=row["name"], price=row["price"], available=row["stock"])


@router.post("/points/{user_id}/charge", status_code=201)
async def charge(request: Request, user_id: str, charged: Charge) -> AccountView:
    async with _pool(request).acquire() as db, db.transaction():
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


@router.get("/points/{user_id}")
async def show_account(request: Request, user_id: str) -> AccountView:
    balance = await _pool(request).fetchval("SELECT balance FROM accounts WHERE user_id = $1", user_id)
    return AccountView(user_id=user_id, balance=balance or 0)


@router.post("/coupons", status_code=201)
async def issue(request: Request, coupon: Coupon) -> CouponView:
    await _pool(request).execute(
        "INSERT INTO coupons (coupon_id, user_id, discount, expires_at) VALUES ($1, $2, $3, $4)",
        coupon.coupon_id,
        coupon.user_id,
        coupon.discount,
        coupon.expires_at,
    )
    return CouponView(coupon_id=coupon.coupon_id, order_id=None)


@router.get("/coupons/{coupon_id}")
async def show_coupon(request: Request, coupon_id: str) -> CouponView:
    order_id = await _pool(request).fetchval("SELECT order_id FROM coupons WHERE coupon_id = $1", coupon_id)
    return CouponView(coupon_id=coupon_id, order_id=None if order_id is None else str(order_id))
