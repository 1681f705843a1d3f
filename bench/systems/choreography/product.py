"""Products and their stock: reserves for a new order, releases when a later step failed."""

from typing import Final

from fastapi import APIRouter

from bench.systems.bodies import PlacedLine, Product, ProductView
from bench.systems.choreography.events import CREATED, FAILED, RELEASED, RESERVED, Created, Done, Failed, Reserved
from bench.systems.choreography.service import Answer, Connection, Store, hears, once

NAME: Final = "product"
STORE: Final = Store(
    """
    CREATE TABLE IF NOT EXISTS products (
        product_id TEXT PRIMARY KEY, name TEXT, price INTEGER, stock INTEGER CHECK (stock >= 0)
    );
    CREATE TABLE IF NOT EXISTS reservations (
        order_id TEXT, product_id TEXT, quantity INTEGER, PRIMARY KEY (order_id, product_id)
    )
    """
)
ROUTER: Final = APIRouter()


@hears(CREATED, NAME)
async def reserve(order: Created) -> None:
    await once(STORE, "reserve", order.order_id, lambda db: _reserve(db, order))


def _reserve(db: Connection, order: Created) -> Answer:
    lines = []
    for line in order.lines:
        found = db.execute("SELECT price, stock FROM products WHERE product_id = ?", (line.product_id,)).fetchone()
        if found is None:
            return Answer(FAILED.format(NAME), Failed(order_id=order.order_id, reason="product-unknown"))
        if found[1] < line.quantity:
            return Answer(FAILED.format(NAME), Failed(order_id=order.order_id, reason="product-out-of-stock"))
        lines.append(PlacedLine(product_id=line.product_id, quantity=line.quantity, unit_price=found[0]))
    for line in lines:
        db.execute("UPDATE products SET stock = stock - ? WHERE product_id = ?", (line.quantity, line.product_id))
        db.execute("INSERT INTO reservations VALUES (?, ?, ?)", (order.order_id, line.product_id, line.quantity))
    total = sum(line.unit_price * line.quantity for line in lines)
    reserved = Reserved(
        order_id=order.order_id,
        user_id=order.user_id,
        lines=lines,
        points=order.points,
        coupon_id=order.coupon_id,
        total=total,
    )
    return Answer(RESERVED, reserved)


@hears(FAILED.format("point"), NAME)
@hears(FAILED.format("coupon"), NAME)
async def release(failed: Failed) -> None:
    await once(STORE, "release", failed.order_id, lambda db: _release(db, failed.order_id))


def _release(db: Connection, order_id: str) -> Answer:
    held = db.execute("DELETE FROM reservations WHERE order_id = ? RETURNING quantity, product_id", (order_id,))
    db.executemany("UPDATE products SET stock = stock + ? WHERE product_id = ?", held.fetchall())
    return Answer(RELEASED, Done(order_id=order_id))


@ROUTER.post("/products", status_code=201)
async def register(product: Product) -> ProductView:
    row = (product.product_id, product.name, product.price, product.stock)
    await STORE.run(lambda db: db.execute("INSERT INTO products VALUES (?, ?, ?, ?)", row))
    return ProductView(product_id=product.product_id, name=product.name, price=product.price, available=product.stock)


@ROUTER.get("/products/{product_id}")
async def show(product_id: str) -> ProductView:
    name, price, stock = await STORE.read("SELECT name, price, stock FROM products WHERE product_id = ?", product_id)
    return ProductView(product_id=product_id, name=name, price=price, available=stock)
