"""The order list: a read model of every order as it is now, so that a page of orders takes one query.

A row's key begins with the time at which the order was placed, which every fact of the order contains. So new rows go
to the end of the table, and an order's end updates a row near the table's end. Writes to an index by order id would be
scattered over the index where ids are hashes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from msgspec import Raw, Struct, json

from infra.read_models.tables import Statement
from infra.store.records import Notification
from infra.timestamps import microseconds
from order_svc.domain import Status

# The projection -------------------------------------------------------------------------------------------------------


class _Order(Struct, gc=False):
    user_id: str
    lines: Raw
    points: int
    coupon_id: str | None
    placed_at: datetime


class _Placed(Struct, gc=False):
    order: _Order
    deadline: datetime


_NULL: Final = Raw(b"null")


class _Accepted(Struct, gc=False):
    placed_at: datetime


class _Ended(Struct, gc=False):
    """The fields that the list needs of an order.confirmed or order.canceled. `reason`: None if it is confirmed."""

    at: datetime
    order: _Accepted
    reason: str | None = None
    total: int | None = None
    discount: int | None = None
    amount_due: int | None = None
    unit_prices: Raw = _NULL


_placed = json.Decoder(_Placed).decode
_ended = json.Decoder(_Ended).decode

PENDING: Final = ("PENDING", None, None, None, None, None, None)
"""The values of a pending order for the columns that its end will fill, from `status` on."""

INSERT: Final = f"INSERT INTO orders VALUES ({', '.join('?' * 14)})"
UPDATE: Final = """
    UPDATE orders SET status = ?, reason = ?, ended_at = ?, total = coalesce(?, total),
        discount = coalesce(?, discount), amount_due = coalesce(?, amount_due), unit_prices = coalesce(?, unit_prices)
    WHERE placed_at = ? AND order_id = ?
"""
"""Writes an order's end into its row. `coalesce` keeps the confirmation's amounts if the later cancel has none."""


class Listing:
    """Projection: one row for every order. Times in microseconds since 1970 (UTC), amounts in won.

    `lines` and `unit_prices` are JSON, as in the facts.
    """

    name = "orders"
    topics = ("order.created.pending", "order.confirmed", "order.canceled")
    tables = """
        CREATE TABLE IF NOT EXISTS orders (
            placed_at INTEGER, order_id TEXT, user_id TEXT, deadline INTEGER, points INTEGER, coupon_id TEXT,
            lines BLOB, status TEXT, reason TEXT, ended_at INTEGER, total INTEGER, discount INTEGER,
            amount_due INTEGER, unit_prices BLOB, PRIMARY KEY (placed_at, order_id)) WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS of_customer ON orders (user_id, placed_at, order_id);
        CREATE INDEX IF NOT EXISTS pending ON orders (placed_at, order_id) WHERE status = 'PENDING';
        CREATE INDEX IF NOT EXISTS canceled ON orders (placed_at, order_id) WHERE status = 'CANCELED';
    """

    def apply(self, records: Sequence[Notification]) -> list[Statement]:
        # Most orders end soon, often in the batch in which they are placed: these are written once, with their end.
        placed: dict[str, tuple[Any, ...]] = {}
        ended: dict[str, tuple[Any, ...]] = {}
        ended_later: list[tuple[Any, ...]] = []
        for record in records:
            order_id = record.originator_id.partition("-")[2]
            if record.topic == "order.created.pending":
                placed[order_id] = _placed_columns(order_id, _placed(record.state))
                continue
            end = _ended(record.state)
            if order_id in placed and order_id not in ended:
                ended[order_id] = _end_columns(end)
            else:
                ended_later.append((*_end_columns(end), microseconds(end.order.placed_at), order_id))
        return [
            (INSERT, [(*columns, *ended.get(order_id, PENDING)) for order_id, columns in placed.items()]),
            (UPDATE, ended_later),
        ]


def _placed_columns(order_id: str, fact: _Placed) -> tuple[Any, ...]:
    order = fact.order
    return (
        microseconds(order.placed_at),
        order_id,
        order.user_id,
        microseconds(fact.deadline),
        order.points,
        order.coupon_id,
        bytes(order.lines),
    )


def _end_columns(fact: _Ended) -> tuple[Any, ...]:
    return (
        "CONFIRMED" if fact.reason is None else "CANCELED",
        fact.reason,
        microseconds(fact.at),
        fact.total,
        fact.discount,
        fact.amount_due,
        None if fact.unit_prices == _NULL else bytes(fact.unit_prices),
    )


# Queries --------------------------------------------------------------------------------------------------------------


class ListRow(NamedTuple):
    """A row of the table `orders`. Times in microseconds since 1970 (UTC), amounts in won.

    `lines` and `unit_prices` are JSON. `ended_at`: when the order got its present status, None while pending.
    `coupon_id`: None without a coupon. `reason`: None unless the order is canceled. Amounts and `unit_prices`: None
    while they are not known.
    """

    placed_at: int
    order_id: str
    user_id: str
    deadline: int
    points: int
    coupon_id: str | None
    lines: bytes
    status: Status
    reason: str | None
    ended_at: int | None
    total: int | None
    discount: int | None
    amount_due: int | None
    unit_prices: bytes | None


class PageKey(NamedTuple):
    """The sort key of an order in every list; an order's key never changes.

    `placed_at` is in microseconds since 1970 (UTC).
    """

    placed_at: int
    order_id: str


Query = tuple[str, list[Any]]
"""SQL and its parameters."""

AMONG: Final = """
    status = 'CANCELED' AND (placed_at, order_id) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))
"""
"""Holds for canceled orders with one of the keys in a JSON text."""

LEFT_OPEN: Final = "SELECT order_id, deadline FROM orders WHERE status = 'PENDING'"
PENDING_SINCE: Final = "SELECT order_id, placed_at FROM orders WHERE status = 'PENDING' ORDER BY placed_at"


def canceled_last(limit: int) -> Query:
    """Make the query for the `limit` canceled orders that were placed last, the last one first.

    Its columns: `placed_at` and `order_id`, which are the key, `reason`, `ended_at`.
    """
    return (
        "SELECT placed_at, order_id, reason, ended_at FROM orders WHERE status = 'CANCELED'"
        " ORDER BY placed_at DESC, order_id DESC LIMIT ?",
        [limit],
    )


def of_customer(user_id: str, status: Status | None, before: PageKey | None, limit: int) -> Query:
    """Make the query for up to `limit` of a customer's orders (ListRow), newest first.

    `status`: only orders with this status; None: all. `before`: only orders older than this key; None: from the newest.
    """
    wanted: list[tuple[str, tuple[Any, ...]]] = [("user_id = ?", (user_id,)), *_of_status(status)]
    if before is not None:
        wanted.append(("(placed_at, order_id) < (?, ?)", before))
    return _select(wanted, "placed_at DESC, order_id DESC", limit)


def of_all(
    status: Status | None,
    placed_until: datetime | None,
    after: PageKey | None,
    limit: int,
    *,
    newest_first: bool = False,
    reason: str | None = None,
    user_id: str | None = None,
    among: Sequence[PageKey] | None = None,
) -> Query:
    """Make the query for up to `limit` orders of all customers (ListRow), oldest first unless `newest_first`.

    `status`: only orders with this status. `placed_until`: only orders placed at this instant or earlier. `after`: only
    orders that follow this key in that order. `reason`: only orders that are canceled for it. `user_id`: only orders of
    this customer. `among`: only canceled orders with one of these keys. Each of them may be None: no such condition.
    """
    wanted = _of_status(status)
    if among is not None:
        wanted.append((AMONG, (json.encode(among),)))
    if user_id is not None:
        wanted.append(("user_id = ?", (user_id,)))
    if reason is not None:
        wanted.append(("reason = ?", (reason,)))
    if placed_until is not None:
        wanted.append(("placed_at <= ?", (microseconds(placed_until),)))
    if after is not None:
        wanted.append((f"(placed_at, order_id) {'<' if newest_first else '>'} (?, ?)", after))
    return _select(wanted, "placed_at DESC, order_id DESC" if newest_first else "placed_at, order_id", limit)


def _of_status(status: Status | None) -> list[tuple[str, tuple[Any, ...]]]:
    return [] if status is None else [("status = ?", (status,))]


def _select(wanted: Sequence[tuple[str, tuple[Any, ...]]], order: str, limit: int) -> Query:
    where = " AND ".join(condition for condition, _ in wanted) or "true"
    values = [value for _, values in wanted for value in values]
    return f"SELECT {', '.join(ListRow._fields)} FROM orders WHERE {where} ORDER BY {order} LIMIT ?", [*values, limit]
