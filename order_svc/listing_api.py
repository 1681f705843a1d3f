"""GET /orders, a customer's own; GET /ops/orders, everybody's, for those who look after the orders."""

import binascii
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from litestar import get
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct, json

from contracts import Reason, ids
from infra.http.parameters import PageSize
from infra.http.problems import invalid, problems
from infra.process.service import Runtime
from infra.timestamps import instant
from order_svc import listing
from order_svc.api import LineView, UserId, caller, caller_required
from order_svc.domain import Status
from order_svc.listing import Row, Spot

Cursor = Annotated[
    str,
    QueryParameter(pattern=rf"^{ids.CHARACTER}{{0,111}}\Z", description="`next` of the page before; empty: the first."),
]
ByStatus = Annotated[Status | None, QueryParameter(description="Only orders that have this status now.")]
Age = Annotated[
    int, QueryParameter(ge=0, le=10**9, description="Only orders placed at least so many seconds ago; 0: all.")
]


class ListedOrder(Struct, kw_only=True):
    """An order as it is now. `ended_at`: since when it has its status, null while PENDING; amounts in won, null until
    they are known."""

    order_id: str
    status: Status
    reason: Reason | None
    lines: list[LineView]
    total: int | None
    points: int
    coupon_id: str | None
    discount: int | None
    amount_due: int | None
    placed_at: datetime
    ended_at: datetime | None


class OrderPage(Struct):
    """Orders, newest first; `next` is the `cursor` of the next page, null on the last one."""

    orders: list[ListedOrder]
    next: str | None


class OperatorsOrder(ListedOrder, kw_only=True):
    """An order, whose it is, and when it will be canceled unless it has ended."""

    user_id: str
    deadline: datetime


class OperatorsPage(Struct):
    """Orders, oldest first; `next` is the `cursor` of the next page, null on the last one."""

    orders: list[OperatorsOrder]
    next: str | None


def routes(runtime: Runtime) -> Sequence[ControllerRouterHandler]:
    orders = runtime.views[listing.Listing.name]

    async def page(query: listing.Query, limit: int) -> tuple[list[Row], str | None]:
        """Of the `limit` + 1 orders asked for the first `limit`, and the cursor of the next page."""
        rows = [Row(*row) for row in await orders.select(*query)]
        return rows[:limit], cursor_of(rows[limit - 1]) if len(rows) > limit else None

    @get(
        "/orders",
        tags=["orders"],
        summary="The caller's orders, newest first, in pages",
        description=(
            "Orders placed while the pages are turned do not move the others: none comes twice, none is left out. "
            "`status` is judged when a page is made."
        ),
        responses=problems(400, 401, 503),
        before_request=caller_required,
    )
    async def show_own(
        user: UserId = None, limit: PageSize = 50, cursor: Cursor = "", status: ByStatus = None
    ) -> OrderPage:
        query = listing.of_customer(caller(user), status, spot_at(cursor), limit + 1)
        rows, following = await page(query, limit)
        return OrderPage([ListedOrder(**_fields(row)) for row in rows], following)

    @get(
        "/ops/orders",
        tags=["operators"],
        summary="All customers' orders, oldest first, in pages",
        description=(
            "For operators; needs no X-User-Id. `status=PENDING&older_than_s=60` begins with the order that has been "
            "open for longest. Ages are measured from `placed_at` by order_svc's clock."
        ),
        responses=problems(400, 503),
    )
    async def show_all(
        limit: PageSize = 50, cursor: Cursor = "", status: ByStatus = None, older_than_s: Age = 0
    ) -> OperatorsPage:
        placed_until = runtime.clock() - timedelta(seconds=older_than_s) if older_than_s else None
        rows, following = await page(listing.of_all(status, placed_until, spot_at(cursor), limit + 1), limit)
        return OperatorsPage(
            [OperatorsOrder(**_fields(row), user_id=row.user_id, deadline=instant(row.deadline)) for row in rows],
            following,
        )

    return [show_own, show_all]


_lines: Final = json.Decoder(list[LineView]).decode
_prices: Final = json.Decoder(list[int]).decode


def _fields(row: Row) -> dict[str, Any]:
    lines = _lines(row.lines)
    if row.unit_prices is not None:
        for line, price in zip(lines, _prices(row.unit_prices), strict=True):
            line.unit_price = price
    return {
        "order_id": row.order_id,
        "status": row.status,
        "reason": row.reason,
        "lines": lines,
        "total": row.total,
        "points": row.points,
        "coupon_id": row.coupon_id,
        "discount": row.discount,
        "amount_due": row.amount_due,
        "placed_at": instant(row.placed_at),
        "ended_at": None if row.ended_at is None else instant(row.ended_at),
    }


# Cursors --------------------------------------------------------------------------------------------------------------


def cursor_of(row: Row) -> str:
    """The spot of a page's last order. It means the same for as long as there are orders, whatever is restarted."""
    return urlsafe_b64encode(f"{row.placed_at}.{row.order_id}".encode()).decode().rstrip("=")


def spot_at(cursor: str) -> Spot | None:
    """The spot a cursor names; None: the list's beginning."""
    if not cursor:
        return None
    try:
        text = b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    named = re.fullmatch(r"([0-9]{1,18})\.(.+)", text)
    if named is None or not ids.is_id(named[2]):
        raise invalid("cursor", "query", "this is not the `next` of a page")
    return Spot(int(named[1]), named[2])
