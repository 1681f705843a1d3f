"""Coupons: uses an order's when its points are used. No step follows that could fail, so it undoes nothing."""

from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter

from bench.systems.bodies import Coupon, CouponView
from bench.systems.choreography.events import COUPON_USED, FAILED, USED, Failed, Reserved, Used
from bench.systems.choreography.service import Answer, Connection, Store, hears, once

NAME: Final = "coupon"
STORE: Final = Store(
    """
    CREATE TABLE IF NOT EXISTS coupons (
        coupon_id TEXT PRIMARY KEY, user_id TEXT, discount INTEGER, expires_at TEXT, order_id TEXT
    )
    """
)
ROUTER: Final = APIRouter()


@hears(USED, NAME)
async def use(order: Reserved) -> None:
    now = datetime.now(UTC)
    await once(STORE, "use-coupon", order.order_id, lambda db: _use(db, order, now))


def _use(db: Connection, order: Reserved, now: datetime) -> Answer:
    discount, refusal = 0, None
    if order.coupon_id is not None:
        discount, refusal = _discount(db, order, now)
    if refusal is not None:
        return Answer(FAILED.format(NAME), Failed(order_id=order.order_id, reason=refusal))
    if order.coupon_id is not None:
        db.execute("UPDATE coupons SET order_id = ? WHERE coupon_id = ?", (order.order_id, order.coupon_id))
    left = order.total - order.points
    return Answer(COUPON_USED, Used(**order.model_dump(), discount=min(discount, left)))


def _discount(db: Connection, order: Reserved, now: datetime) -> tuple[int, str | None]:
    """The coupon's discount, and why the order cannot use it."""
    found = db.execute(
        "SELECT discount, user_id, order_id, expires_at FROM coupons WHERE coupon_id = ?", (order.coupon_id,)
    ).fetchone()
    if found is None:
        return 0, "coupon-unknown"
    discount, user_id, order_id, expires_at = found
    if user_id != order.user_id:
        return 0, "coupon-not-yours"
    if order_id is not None:
        return 0, "coupon-already-used"
    if now >= datetime.fromisoformat(expires_at):
        return 0, "coupon-expired"
    return discount, None


@ROUTER.post("/coupons", status_code=201)
async def issue(coupon: Coupon) -> CouponView:
    row = (coupon.coupon_id, coupon.user_id, coupon.discount, coupon.expires_at.isoformat())
    await STORE.run(lambda db: db.execute("INSERT INTO coupons VALUES (?, ?, ?, ?, NULL)", row))
    return CouponView(coupon_id=coupon.coupon_id, order_id=None)


@ROUTER.get("/coupons/{coupon_id}")
async def show(coupon_id: str) -> CouponView:
    found = await STORE.read("SELECT order_id FROM coupons WHERE coupon_id = ?", coupon_id)
    return CouponView(coupon_id=coupon_id, order_id=found[0] if found else None)
