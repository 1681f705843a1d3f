"""Says for a person, in a few words, what a fact is about (amount, product or reason) and what an order is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from contracts import (
    CouponHeld,
    CouponIssued,
    CouponReturned,
    CouponUsed,
    CouponUseFailed,
    Fact,
    OrderCanceled,
    OrderConfirmed,
    PointCharged,
    PointCredited,
    PointDebited,
    PointDeposited,
    PointRefunded,
    PointUsed,
    PointUseFailed,
    ProductRegistered,
    ProductReserved,
    ProductReserveFailed,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReceived,
    ProductStockReturned,
)
from contracts.fact import Order, SagaFact, Timestamp
from contracts.wire import decode
from infra.timestamps import in_utc

HeadingLine = Sequence[str | datetime]
"""A line for a person, in parts: who shows it chooses how its times look."""

SHOWN_LINES: Final = 5
"""Lines of an order that its heading names."""


class PlacedLine(msgspec.Struct):
    product_id: str


class PlacedOrder(msgspec.Struct):
    """The fields of an order that say which products, account and coupon its facts are about."""

    placed_at: Timestamp
    lines: list[PlacedLine]
    user_id: str = ""
    points: int = 0
    coupon_id: str | None = None


class FactBody(msgspec.Struct):
    """The fields that are read of any fact, also of newer code's."""

    type: str
    at: Timestamp
    cause: str | None = None
    order_id: str | None = None
    order: PlacedOrder | None = None


fact_body: Final = msgspec.json.Decoder(FactBody).decode
"""Decodes these fields of a body. Raises those of DECODE_ERRORS."""


def detail(fact: Fact) -> str:
    """Return the fact's amount, product or reason for a person; empty for some facts.

    The text may have characters that are not printable: others may have written it.
    """
    match fact:
        case ProductStockHeld() | ProductStockReturned() | ProductStockAdded() | ProductStockReceived():
            return f"{fact.quantity:,} x {fact.product_id}"
        case ProductRegistered():
            return f"{fact.name}, {fact.price:,} won"
        case ProductReserved():
            return f"{fact.total:,} won in total"
        case PointCharged():
            return f"{fact.amount:,} points"
        case PointUsed() | PointRefunded() | PointDeposited() | PointDebited() | PointCredited():
            return f"{fact.points:,} points"
        case CouponIssued():
            return f"{fact.discount:,} won for {fact.user_id}, until {shown_time(fact.expires_at)}"
        case CouponUsed():
            return f"{fact.coupon_id}: {fact.discount:,} won off" if fact.coupon_id is not None else "no coupon"
        case CouponHeld() | CouponReturned():
            return fact.coupon_id
        case OrderConfirmed():
            return f"{fact.amount_due:,} won due"
        case ProductReserveFailed() | PointUseFailed() | CouponUseFailed() | OrderCanceled():
            return str(fact.reason)
        case _:
            return ""


def known(body: bytes) -> Fact | None:
    """Return the fact in a body; None if the body cannot be decoded: newer code recorded it, or it is damaged."""
    try:
        return decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def heading(order_id: str, facts: Sequence[Fact]) -> list[HeadingLine]:
    """Return the lines above a list of an order's facts: status, reason, customer, times, what it asked for, amounts.

    `facts` are the order's, in the order in which they happened. If none of them carries the order, there is only the
    first line, with status and reason. A time is a datetime in its line.
    """
    order = next((fact.order for fact in facts if isinstance(fact, SagaFact)), None)
    ends = [fact for fact in facts if isinstance(fact, OrderConfirmed | OrderCanceled)]
    last = ends[-1] if ends else None
    status = "PENDING" if last is None else "CONFIRMED" if isinstance(last, OrderConfirmed) else "CANCELED"
    reason = f", {last.reason}" if isinstance(last, OrderCanceled) else ""
    lines: list[HeadingLine] = [[f"order {order_id}: {status}{reason}"]]
    if order is None:
        return lines
    ended: HeadingLine = [] if last is None else [", ended ", last.at]
    lines += [[f"user {order.user_id}, placed ", order.placed_at, *ended], [f"asked for {_wanted(order)}"]]
    amounts = [] if last is None else [("total", last.total), ("points", order.points), ("discount", last.discount)]
    if isinstance(last, OrderConfirmed):
        amounts.append(("due", last.amount_due))
    if told := [f"{name} {amount:,}" for name, amount in amounts if amount is not None]:
        lines.append([f"won: {', '.join(told)}"])
    return lines


def line_text(line: HeadingLine) -> str:
    """Return the line as one text, with its times in UTC."""
    return "".join(part if isinstance(part, str) else shown_time(part) for part in line)


def _wanted(order: Order) -> str:
    named = [f"{line.quantity:,} x {line.product_id}" for line in order.lines[:SHOWN_LINES]]
    if len(order.lines) > SHOWN_LINES:
        named.append(f"{len(order.lines) - SHOWN_LINES} more lines")
    return ", ".join(
        [*named, f"{order.points:,} points", f"coupon {order.coupon_id}" if order.coupon_id else "no coupon"]
    )


def shown_time(at: datetime) -> str:
    """Return a time in UTC for a person, to the millisecond."""
    try:
        at = in_utc(at)
    except ValueError:  # at the edge of all times
        return at.isoformat()
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1_000:03d} UTC"
