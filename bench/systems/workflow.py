"""`python -m bench.systems.workflow`: the order as a durable workflow of DBOS, its steps transactions in PostgreSQL.

As DBOS's documentation has it: a datasource, whose transactions record the step with what it does, so each step happens
once; a workflow that calls them and undoes what was done when one refuses; its id comes from the idempotency key, so a
repeated request gets the first one's answer. Rows are changed under the condition that there is enough, so
READ COMMITTED suffices; under DBOS's SERIALIZABLE orders of one product would be tried again and again.

The environment has the settings: DSN, PORT.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from dbos import DBOS, SetWorkflowID, SQLAlchemyDatasource
from fastapi import FastAPI, Header
from sqlalchemy import CursorResult, text

from bench.systems import goods
from bench.systems.bodies import Placed, PlaceOrder, Refused, refused, serve

DSN: Final = os.environ["DSN"]
CONNECTIONS: Final = 20
"""To PostgreSQL, for the steps, and as many for DBOS's own tables, which is its default."""

DBOS(
    config={
        "name": "shop",
        "system_database_url": DSN,
        "sys_db_pool_size": CONNECTIONS,
        "log_level": "WARNING",
        "executor_id": "bench",
    }
)
data: Final = SQLAlchemyDatasource.create(DSN, {"pool_size": CONNECTIONS, "max_overflow": 0})
step: Final = data.transaction(isolation_level="READ COMMITTED")


def _sql(statement: str, **values: object) -> CursorResult[Any]:
    """Execute a statement in the step's transaction."""
    result = data.sql_session().execute(text(statement), values)
    assert isinstance(result, CursorResult)
    return result


# Steps ----------------------------------------------------------------------------------------------------------------


@step
def create(user_id: str, wanted: Mapping[str, Any], now: str) -> int:
    """Record the order and return its number."""
    number = _sql(
        "INSERT INTO orders (user_id, status, coupon_id, points, placed_at)"
        " VALUES (:user_id, 'PENDING', :coupon_id, :points, :now) RETURNING order_id",
        user_id=user_id,
        coupon_id=wanted["coupon_id"],
        points=wanted["points"],
        now=datetime.fromisoformat(now),
    )
    return int(number.scalar_one())


@step
def reserve(order_id: int, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take the stock of all lines, and return them with their prices. Raises Refused."""
    reserved = []
    for line in sorted(lines, key=lambda line: str(line["product_id"])):  # or two orders could deadlock
        price = _sql(
            "UPDATE products SET stock = stock - :quantity"
            " WHERE product_id = :product_id AND stock >= :quantity RETURNING price",
            **line,
        ).scalar()
        if price is None:
            known = _sql(
                "SELECT 1 FROM products WHERE product_id = :product_id", product_id=line["product_id"]
            ).scalar()
            raise Refused("product-out-of-stock" if known else "product-unknown")
        reserved.append({**line, "unit_price": int(price)})
        _sql(
            "INSERT INTO order_lines (order_id, product_id, quantity, unit_price)"
            " VALUES (:order_id, :product_id, :quantity, :unit_price)",
            order_id=order_id,
            **reserved[-1],
        )
    return reserved


@step
def release(order_id: int) -> None:
    """Undo `reserve`."""
    _sql(
        "UPDATE products SET stock = stock + quantity FROM order_lines"
        " WHERE order_id = :order_id AND products.product_id = order_lines.product_id",
        order_id=order_id,
    )
    _sql("DELETE FROM order_lines WHERE order_id = :order_id", order_id=order_id)


@step
def use_points(order_id: int, user_id: str, points: int, total: int, now: str) -> None:
    """Take the points from the user's account. Raises Refused."""
    if points > total:
        raise Refused("points-exceed-total")
    taken = _sql(
        "UPDATE accounts SET balance = balance - :points WHERE user_id = :user_id AND balance >= :points",
        user_id=user_id,
        points=points,
    )
    if points and not taken.rowcount:
        raise Refused("points-insufficient")
    _book(order_id, user_id, -points, now)


@step
def refund(order_id: int, user_id: str, points: int, now: str) -> None:
    """Undo `use_points`."""
    _sql("UPDATE accounts SET balance = balance + :points WHERE user_id = :user_id", user_id=user_id, points=points)
    _book(order_id, user_id, points, now)


def _book(order_id: int, user_id: str, amount: int, now: str) -> None:
    _sql(
        "INSERT INTO point_history (user_id, order_id, amount, at) VALUES (:user_id, :order_id, :amount, :at)",
        user_id=user_id,
        order_id=order_id,
        amount=amount,
        at=datetime.fromisoformat(now),
    )


@step
def use_coupon(order_id: int, user_id: str, coupon_id: str, left: int, now: str) -> int:
    """Take the coupon and return its discount, never more than is `left` to pay. Raises Refused."""
    coupon = _sql(
        "SELECT user_id, discount, expires_at, order_id FROM coupons WHERE coupon_id = :coupon_id FOR UPDATE",
        coupon_id=coupon_id,
    ).one_or_none()
    if coupon is None:
        raise Refused("coupon-unknown")
    if coupon.user_id != user_id:
        raise Refused("coupon-not-yours")
    if coupon.order_id is not None:
        raise Refused("coupon-already-used")
    if datetime.fromisoformat(now) >= coupon.expires_at:
        raise Refused("coupon-expired")
    _sql("UPDATE coupons SET order_id = :order_id WHERE coupon_id = :coupon_id", order_id=order_id, coupon_id=coupon_id)
    return min(int(coupon.discount), left)


@step
def confirm(order_id: int, total: int, discount: int, amount_due: int) -> None:
    _sql(
        "UPDATE orders SET status = 'CONFIRMED', total = :total, discount = :discount, amount_due = :amount_due"
        " WHERE order_id = :order_id AND status = 'PENDING'",
        order_id=order_id,
        total=total,
        discount=discount,
        amount_due=amount_due,
    )


@step
def cancel(order_id: int) -> None:
    _sql("UPDATE orders SET status = 'CANCELED' WHERE order_id = :order_id AND status = 'PENDING'", order_id=order_id)


# The workflow ---------------------------------------------------------------------------------------------------------


@DBOS.workflow()
def place_order(user_id: str, wanted: dict[str, Any], now: str) -> dict[str, Any]:
    """Return the confirmed order; for a refused one, whose steps are undone, the reason: `refused`."""
    order_id, points, reserved, used = create(user_id, wanted, now), wanted["points"], False, False
    try:
        lines = reserve(order_id, wanted["lines"])
        reserved = True
        total = sum(line["unit_price"] * line["quantity"] for line in lines)
        use_points(order_id, user_id, points, total, now)
        used = True
        coupon_id, left = wanted["coupon_id"], total - points
        discount = 0 if coupon_id is None else use_coupon(order_id, user_id, coupon_id, left, now)
    except Refused as refusal:
        if used:
            refund(order_id, user_id, points, now)
        if reserved:
            release(order_id)
        cancel(order_id)
        return {"refused": str(refusal)}
    confirm(order_id, total, discount, left - discount)
    return {
        "order_id": str(order_id),
        "status": "CONFIRMED",
        "lines": lines,
        "total": total,
        "points": points,
        "coupon_id": coupon_id,
        "discount": discount,
        "amount_due": left - discount,
        "placed_at": now,
    }


# HTTP -----------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with goods.shop(DSN) as pool:
        app.state.pool = pool
        DBOS.launch()
        yield
        DBOS.destroy()


app: Final = FastAPI(lifespan=_lifespan, exception_handlers={Refused: refused})
app.include_router(goods.router)


@app.post("/orders")
def place(wanted: PlaceOrder, x_user_id: Annotated[str, Header()], idempotency_key: Annotated[str, Header()]) -> Placed:
    with SetWorkflowID(f"{x_user_id}-{idempotency_key}"):
        ended = place_order(x_user_id, wanted.model_dump(), datetime.now(UTC).isoformat())
    if "refused" in ended:
        raise Refused(ended["refused"])
    return Placed.model_validate(ended)


if __name__ == "__main__":
    serve(app)
