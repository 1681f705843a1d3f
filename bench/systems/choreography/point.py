"""Users' points: uses them when the stock is reserved, refunds them when the coupon failed."""

from typing import Final

from fastapi import APIRouter

from bench.systems.bodies import AccountView, Charge
from bench.systems.choreography.events import FAILED, REFUNDED, RESERVED, USED, Done, Failed, Reserved
from bench.systems.choreography.service import Answer, Connection, Store, hears, once

NAME: Final = "point"
STORE: Final = Store(
    """
    CREATE TABLE IF NOT EXISTS accounts (user_id TEXT PRIMARY KEY, balance INTEGER CHECK (balance >= 0));
    CREATE TABLE IF NOT EXISTS uses (order_id TEXT PRIMARY KEY, user_id TEXT, points INTEGER)
    """
)
ROUTER: Final = APIRouter()


@hears(RESERVED, NAME)
async def use(order: Reserved) -> None:
    await once(STORE, "use-points", order.order_id, lambda db: _use(db, order))


def _use(db: Connection, order: Reserved) -> Answer:
    found = db.execute("SELECT balance FROM accounts WHERE user_id = ?", (order.user_id,)).fetchone()
    if order.points > order.total:
        return Answer(FAILED.format(NAME), Failed(order_id=order.order_id, reason="points-exceed-total"))
    if order.points > (found[0] if found else 0):
        return Answer(FAILED.format(NAME), Failed(order_id=order.order_id, reason="points-insufficient"))
    db.execute("UPDATE accounts SET balance = balance - ? WHERE user_id = ?", (order.points, order.user_id))
    db.execute("INSERT INTO uses VALUES (?, ?, ?)", (order.order_id, order.user_id, order.points))
    return Answer(USED, order)


@hears(FAILED.format("coupon"), NAME)
async def refund(failed: Failed) -> None:
    await once(STORE, "refund", failed.order_id, lambda db: _refund(db, failed.order_id))


def _refund(db: Connection, order_id: str) -> Answer:
    used = db.execute("DELETE FROM uses WHERE order_id = ? RETURNING points, user_id", (order_id,))
    db.executemany("UPDATE accounts SET balance = balance + ? WHERE user_id = ?", used.fetchall())
    return Answer(REFUNDED, Done(order_id=order_id))


@ROUTER.post("/points/{user_id}/charge", status_code=201)
async def charge(user_id: str, charged: Charge) -> AccountView:
    balance = await STORE.run(lambda db: _charge(db, user_id, charged.amount))
    return AccountView(user_id=user_id, balance=balance)


def _charge(db: Connection, user_id: str, amount: int) -> int:
    (balance,) = db.execute(
        "INSERT INTO accounts VALUES (?, ?) ON CONFLICT DO UPDATE SET balance = balance + ? RETURNING balance",
        (user_id, amount, amount),
    ).fetchone()
    return int(balance)


@ROUTER.get("/points/{user_id}")
async def show(user_id: str) -> AccountView:
    found = await STORE.read("SELECT balance FROM accounts WHERE user_id = ?", user_id)
    return AccountView(user_id=user_id, balance=found[0] if found else 0)
