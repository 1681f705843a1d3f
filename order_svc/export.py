"""Describes the dataset for the data platform: one row for every end of an order, and for every correction.

`orders export` uses this module in a process of its own; order_svc's process does not.
"""

from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from contracts import Order, OrderCanceled, OrderConfirmed
from contracts.wire import decode, fact_id
from infra.export.rows import Dataset, Row
from infra.store.records import Notification

FIRST_END: Final = 2
"""The version, in the order's stream, of the fact that first ends the order; version 1 accepts the order. A cancel of a
later version corrects a confirmation."""

Kind = Literal["confirmed", "canceled", "correction"]


class ExportedLine(Struct, frozen=True, gc=False):
    """A line of an exported order. `unit_price` in won; null: the fact has none."""

    product_id: str
    quantity: int
    unit_price: int | None


class OrderRow(Row, frozen=True, kw_only=True, gc=False, tag="orders/1"):
    """One end of one order, or the correction of a confirmation. Amounts are whole won; null: not known from the fact.

    `points`: as ordered, also if none were taken. `amount_due` is computed for a cancel whose fact has total and
    discount. `reason`: null if confirmed. A correction repeats the amounts that it takes back, as positive numbers.

    The fields' names are the format that the data platform stores. Fields are only added, at the end and nullable, with
    the next number in the tag; any other change makes another dataset.
    """

    kind: Kind
    order_id: str
    user_id: str
    reason: str | None
    placed_at: datetime
    lines: tuple[ExportedLine, ...]
    total: int | None
    points: int
    discount: int | None
    amount_due: int | None
    coupon_id: str | None


def row(record: Notification) -> OrderRow:
    """Make the row of a record of order_svc's log.

    Raises ValueError for a fact of which no row can be made, and msgspec.DecodeError for a body that `decode` refuses.
    """
    fact = decode(record.state)
    match fact:
        case OrderConfirmed(amount_due=due):
            return _row(record, fact, "confirmed", due)
        case OrderCanceled(total=int(total), discount=int(discount)):
            return _row(record, fact, _kind(record), total - fact.order.points - discount)
        case OrderCanceled():
            return _row(record, fact, _kind(record), None)
        case _:
            raise ValueError(f"{type(fact).__name__} ends no order")


def _kind(canceled: Notification) -> Kind:
    return "canceled" if canceled.originator_version == FIRST_END else "correction"


def _row(record: Notification, fact: OrderConfirmed | OrderCanceled, kind: Kind, amount_due: int | None) -> OrderRow:
    order = fact.order
    return OrderRow(
        fact_id=fact_id(record.originator_id, record.originator_version),
        position=record.position,
        kind=kind,
        at=fact.at,
        order_id=fact.order_id,
        user_id=order.user_id,
        reason=fact.reason if isinstance(fact, OrderCanceled) else None,
        placed_at=order.placed_at,
        lines=_lines(order, fact.unit_prices),
        total=fact.total,
        points=order.points,
        discount=fact.discount,
        amount_due=amount_due,
        coupon_id=order.coupon_id,
    )


def _lines(order: Order, prices: tuple[int, ...] | None) -> tuple[ExportedLine, ...]:
    known = prices if prices is not None else (None,) * len(order.lines)
    return tuple(
        ExportedLine(line.product_id, line.quantity, price) for line, price in zip(order.lines, known, strict=True)
    )


ORDERS: Final = Dataset(
    name="orders",
    row_type=OrderRow,
    row=row,
    topics=("order.confirmed", "order.canceled"),
    sums=("amount_due", "points", "discount", "total"),
)
