"""Lists of orders: GET /orders for a customer, GET /ops/orders for operators."""

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from litestar import get
from litestar.params import QueryParameter
from litestar.types import ControllerRouterHandler
from msgspec import Struct, json

from contracts import Reason, ids
from infra.auth.principal import OPS_READ
from infra.http.access import ACCESS, ANY_CALLER
from infra.http.answers import problems
from infra.http.examples import example, example_of
from infra.http.parameters import PageSize, Time
from infra.http.problems import invalid
from infra.http.wording import FORMS
from infra.process.runtime import Runtime
from infra.timestamps import instant
from order_svc import listing
from order_svc.api import CONFIRMED, LineView, UserId, caller_required, unauthorized
from order_svc.compensations import Compensations
from order_svc.domain import Status
from order_svc.listing import ListRow, PageKey

CURSOR: Final = rf"^{ids.CHARACTER}{{0,111}}\Z"
USER: Final = rf"^{ids.CHARACTER}{{0,{ids.MAX_LENGTH}}}\Z"
FORMS[USER] = "has to be a customer's id, or empty for all customers"
FORMS[CURSOR] = "has to be the `next` of a page, or empty for the first page"
Cursor = Annotated[str, QueryParameter(pattern=CURSOR, description="`next` of the page before; empty: the first.")]
ByStatus = Annotated[
    Literal["ALL"] | Status,
    QueryParameter(description="Only orders that have this status now; ALL: whatever they have."),
]
Age = Annotated[
    int, QueryParameter(ge=0, le=10**9, description="Only orders placed at least this many seconds ago; 0: all.")
]

Sorting = Annotated[Literal["oldest", "newest"], QueryParameter(description="Which orders come first.")]
ByReason = Annotated[
    Literal["ANY"] | Reason, QueryParameter(description="Only orders that are canceled for this reason.")
]
ByCompensation = Annotated[
    Literal["any", "no"],
    QueryParameter(
        description=(
            "no: only canceled orders of which something is still taken, as far as order_svc knows by its last look at "
            "the stream; it looks once a second while there is a broker."
        )
    ),
]
OfUser = Annotated[
    str, QueryParameter(pattern=USER, description="Only orders of this customer; empty: of all customers.")
]


LISTED: Final[dict[str, Any]] = {
    **{name: value for name, value in CONFIRMED.items() if name != "deadline"},
    "reason": None,
    "ended_at": datetime(2026, 1, 31, 6, 15, 1, tzinfo=UTC),
}
"""The fields of a confirmed order in a list, for examples."""


@example(**LISTED)
class ListedOrder(Struct, kw_only=True):
    """An order as it is now. `ended_at`: when the order got its present status, null while PENDING.

    Amounts in won, null if they are not known. `reason`: null unless the order is canceled.
    """

    order_id: str
    status: Status
    reason: Reason | None
    lines: list[LineView]
    total: int | None
    points: int
    coupon_id: str | None
    discount: int | None
    amount_due: int | None
    placed_at: Time
    ended_at: Time | None


@example(orders=[example_of(ListedOrder)], next=None)
class OrderPage(Struct):
    """A page of a customer's orders, newest first. `next`: the `cursor` of the next page, null on the last one."""

    orders: list[ListedOrder]
    next: str | None


@example(**LISTED, user_id="u1", deadline=CONFIRMED["deadline"])
class OperatorsOrder(ListedOrder, kw_only=True):
    """An order as it is now, with its customer. `deadline`: when the order is canceled if it has not ended."""

    user_id: str
    deadline: Time


@example(orders=[example_of(OperatorsOrder)], next=None)
class OperatorsPage(Struct):
    """A page of the orders of all customers, or of the one in `user_id`; oldest first unless `sort` says newest.

    `next`: the `cursor` of the next page, null on the last one.
    """

    orders: list[OperatorsOrder]
    next: str | None


class Lists:
    """Handles the requests for lists of orders; the function `routes` maps paths to these methods."""

    def __init__(self, runtime: Runtime, compensations: Compensations) -> None:
        self._clock = runtime.clock
        self._compensations = compensations
        self._orders = runtime.views[listing.Listing.name]

    async def show_own(
        self, user: UserId, limit: PageSize = 50, cursor: Cursor = "", status: ByStatus = "ALL"
    ) -> OrderPage:
        query = listing.of_customer(user, _only(status), key_at(cursor), limit + 1)
        rows, following = await self._page(query, limit)
        return OrderPage([ListedOrder(**_fields(row)) for row in rows], following)

    async def show_all(
        self,
        *,
        limit: PageSize = 50,
        cursor: Cursor = "",
        status: ByStatus = "ALL",
        older_than_s: Age = 0,
        sort: Sorting = "oldest",
        reason: ByReason = "ANY",
        user_id: OfUser = "",
        compensated: ByCompensation = "any",
    ) -> OperatorsPage:
        query = listing.of_all(
            _only(status),
            self._clock() - timedelta(seconds=older_than_s) if older_than_s else None,
            key_at(cursor),
            limit + 1,
            newest_first=sort == "newest",
            reason=None if reason == "ANY" else reason,
            user_id=user_id or None,
            among=self._compensations.keys if compensated == "no" else None,
        )
        rows, following = await self._page(query, limit)
        return OperatorsPage(
            [OperatorsOrder(**_fields(row), user_id=row.user_id, deadline=instant(row.deadline)) for row in rows],
            following,
        )

    async def _page(self, query: listing.Query, limit: int) -> tuple[list[ListRow], str | None]:
        """Run `query`, which must ask for `limit` + 1 orders; return the first `limit`, and the next page's cursor.

        The cursor is None if there is no next page. Raises ViewBehind if the order list cannot be read now.
        """
        rows = [ListRow(*row) for row in await self._orders.select(*query)]
        return rows[:limit], cursor_of(rows[limit - 1]) if len(rows) > limit else None


def routes(runtime: Runtime, compensations: Compensations) -> Sequence[ControllerRouterHandler]:
    lists = Lists(runtime, compensations)
    show_own = get(
        "/orders",
        tags=["orders"],
        summary="The caller's orders, newest first, in pages",
        opt={ACCESS: ANY_CALLER},
        description=(
            "Orders that are placed between two pages do not move the others: none appears twice, none is left out. "
            "`status` is evaluated when a page is made."
        ),
        responses=problems(400, unauthorized(), 503),
        before_request=caller_required,
    )
    show_all = get(
        "/ops/orders",
        tags=["operators"],
        summary="All customers' orders, oldest or newest first, in pages",
        opt={ACCESS: OPS_READ},
        description=(
            "For operators; needs no X-User-Id. `status=PENDING&older_than_s=60` begins with the order that has been "
            "pending longest; `compensated=no` has the canceled orders of which something is still taken. Ages are "
            "measured from `placed_at` by order_svc's clock. A `cursor` goes with its page's `sort`."
        ),
        responses=problems(400, 503),
    )
    return [show_own(lists.show_own), show_all(lists.show_all)]


def _only(status: ByStatus) -> Status | None:
    return None if status == "ALL" else status


_lines: Final = json.Decoder(list[LineView]).decode
_prices: Final = json.Decoder(list[int]).decode


def _fields(row: ListRow) -> dict[str, Any]:
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


def cursor_of(row: ListRow) -> str:
    """Return the cursor of the page after this row: the row's key as text.

    The key never changes, so a cursor stays valid across restarts and rebuilds.
    """
    return urlsafe_b64encode(f"{row.placed_at}.{row.order_id}".encode()).decode().rstrip("=")


def key_at(cursor: str) -> PageKey | None:
    """Return the key in a cursor; None for the empty text, which means the list's beginning.

    Raises a Problem, 400, if the text is not a cursor.
    """
    if not cursor:
        return None
    try:
        text = b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:  # binascii.Error, UnicodeDecodeError, or text that is not ASCII
        text = ""
    named = re.fullmatch(r"([0-9]{1,18})\.(.+)", text)
    if named is None or not ids.is_id(named[2]):
        raise invalid("cursor", "query", "this is not the `next` of a page; send one, or nothing for the first page")
    return PageKey(int(named[1]), named[2])
