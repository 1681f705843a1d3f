"""Orders: creates them, confirms or cancels them when the last step is done or one failed, answers their clients."""

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Header

from bench.systems.bodies import Placed, PlaceOrder, Refused
from bench.systems.choreography.events import (
    CANCELED,
    CONFIRMED,
    COUPON_USED,
    CREATED,
    FAILED,
    Created,
    Done,
    Failed,
    Used,
)
from bench.systems.choreography.service import Answer, Connection, Store, hears, once, publish

NAME: Final = "order"
WAIT_S: Final = 30.0
STORE: Final = Store(
    """
    CREATE TABLE IF NOT EXISTS orders (
        order_id TEXT PRIMARY KEY, status TEXT, created TEXT, placed_at TEXT, outcome TEXT, ended INTEGER
    ) WITHOUT ROWID
    """
)
"""`outcome`: a confirmed order's answer to its client, a canceled one's reason. `ended`: how often it ended."""
ROUTER: Final = APIRouter()

Outcome = tuple[str, str]
"""How an order ended, and the `outcome` of its row."""

_waiting: dict[str, asyncio.Future[Outcome]] = {}


@ROUTER.post("/orders")
async def place(
    wanted: PlaceOrder, x_user_id: Annotated[str, Header()], idempotency_key: Annotated[str, Header()]
) -> Placed:
    """Answers when the order has ended. The same key gets the same order."""
    order_id = hashlib.sha256(f"{x_user_id}\0{idempotency_key}".encode()).hexdigest()[:32]
    created = Created(order_id=order_id, user_id=x_user_id, **wanted.model_dump()).model_dump_json()
    end = _waiting.setdefault(order_id, asyncio.get_running_loop().create_future())
    row = (order_id, created, datetime.now(UTC).isoformat())
    before = await STORE.run(lambda db: _create(db, row))
    if before is None:
        await publish(f"create-{order_id}", CREATED, created)
    if before is None or before[0] == "PENDING":
        async with asyncio.timeout(WAIT_S):
            before = await asyncio.shield(end)
    _waiting.pop(order_id, None)
    status, outcome = before
    if status == "CANCELED":
        raise Refused(outcome)
    return Placed.model_validate_json(outcome)


def _create(db: Connection, row: tuple[str, str, str]) -> Outcome | None:
    """Record a new order; return how far a known one is."""
    found: Outcome | None = db.execute("SELECT status, outcome FROM orders WHERE order_id = ?", row[:1]).fetchone()
    if found is None:
        db.execute("INSERT INTO orders VALUES (?, 'PENDING', ?, ?, '', 0)", row)
    return found


async def publish_pending() -> None:
    """Publish orders again whose publishing a crash may have prevented. Called once, at the start."""
    pending = "SELECT order_id, created FROM orders WHERE status = 'PENDING'"
    for order_id, created in await STORE.run(lambda db: db.execute(pending).fetchall()):
        await publish(f"create-{order_id}", CREATED, created)


@hears(COUPON_USED, NAME)
async def confirm(order: Used) -> None:
    await once(STORE, "end", order.order_id, lambda db: _confirm(db, order))
    await _answer(order.order_id)


def _confirm(db: Connection, order: Used) -> Answer:
    (placed_at,) = db.execute("SELECT placed_at FROM orders WHERE order_id = ?", (order.order_id,)).fetchone()
    placed = Placed(
        order_id=order.order_id,
        status="CONFIRMED",
        lines=order.lines,
        total=order.total,
        points=order.points,
        coupon_id=order.coupon_id,
        discount=order.discount,
        amount_due=order.total - order.points - order.discount,
        placed_at=placed_at,
    )
    _end(db, order.order_id, "CONFIRMED", placed.model_dump_json())
    return Answer(CONFIRMED, placed)


@hears(FAILED.format("*"), NAME)
async def cancel(failed: Failed) -> None:
    await once(STORE, "end", failed.order_id, lambda db: _cancel(db, failed))
    await _answer(failed.order_id)


def _cancel(db: Connection, failed: Failed) -> Answer:
    _end(db, failed.order_id, "CANCELED", failed.reason)
    return Answer(CANCELED, Done(order_id=failed.order_id))


def _end(db: Connection, order_id: str, status: str, outcome: str) -> None:
    db.execute(
        "UPDATE orders SET status = ?, outcome = ?, ended = ended + 1 WHERE order_id = ?", (status, outcome, order_id)
    )


async def _answer(order_id: str) -> None:
    """Answer the order's client, if one waits here."""
    end = _waiting.pop(order_id, None)
    if end is not None and not end.done():
        end.set_result(await STORE.read("SELECT status, outcome FROM orders WHERE order_id = ?", order_id))
