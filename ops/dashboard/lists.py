"""Lists of orders: the filters of an address, the page of order_svc's list that they ask for, and what is new in it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import httpx
import msgspec

from contracts.fact import REASONS
from infra.http.problems import Problem
from infra.timestamps import microseconds
from ops.client import ServiceAddress, ServiceRequest, ask_with, problem
from ops.dashboard.live import MOST_DIGITS
from ops.dashboard.poller import Snapshot
from ops.errors import Unreachable

PATH: Final = "/ops/orders"
PAGE: Final = 50
TIMEOUT_S: Final = 3.0
COMPENSATED: Final = ("any", "no")
STATUSES: Final = ("ALL", "PENDING", "CONFIRMED", "CANCELED")
SORTS: Final = ("newest", "oldest")
DEFAULTS: Final = {
    "status": "ALL",
    "reason": "ANY",
    "user_id": "",
    "older_than_s": "0",
    "compensated": "any",
    "sort": "newest",
    "product": "",
    "coupon": "",
    "since": "",
    "until": "",
}
SEARCHED: Final = ("product", "coupon", "since", "until")
"""Filters that order_svc's list does not know: with one of them its log is searched."""


class Filters(NamedTuple):
    """The filters of a list of orders, as the texts in the query of the page's address."""

    status: str = DEFAULTS["status"]
    reason: str = DEFAULTS["reason"]
    user_id: str = DEFAULTS["user_id"]
    older_than_s: str = DEFAULTS["older_than_s"]
    compensated: str = DEFAULTS["compensated"]
    sort: str = DEFAULTS["sort"]
    product: str = DEFAULTS["product"]
    coupon: str = DEFAULTS["coupon"]
    since: str = DEFAULTS["since"]
    until: str = DEFAULTS["until"]

    @property
    def needs_search(self) -> bool:
        """Whether one of SEARCHED is set, so that order_svc's log has to be searched (see `LogSearch`)."""
        return any(getattr(self, name) for name in SEARCHED)

    def query(self, **more: str) -> str:
        """Return the query of an address, from which `filters` reads these filters; `more`: further parameters in it.

        A filter that has its default is left out.
        """
        usual = DEFAULTS | {"sort": usual_sort(self.status)}
        chosen = {name: value for name, value in self._asdict().items() if value != usual[name]}
        return urlencode(chosen | more)

    @property
    def words(self) -> str:
        """Say which filters differ from their defaults, apart from the sort; empty: none."""
        chosen = {name: value for name, value in self._asdict().items() if value != DEFAULTS[name] and name != "sort"}
        return ", ".join(f"{name} {value}" for name, value in chosen.items())


def filters(parameters: Mapping[str, str]) -> Filters:
    """Return the filters of an address; what is empty or missing is the default. Wrong values are refused only later.

    The sort's default is `usual_sort`. A search has the newest first, whatever the address says.
    """
    chosen = {name: value for name, value in parameters.items() if name in DEFAULTS and value.strip()}
    if any(chosen.get(name) for name in SEARCHED):
        chosen["sort"] = DEFAULTS["sort"]
    chosen.setdefault("sort", usual_sort(chosen.get("status", DEFAULTS["status"])))
    return Filters(**chosen)


def usual_sort(status: str) -> str:
    """Return the sort of a list with this status if the address names none: `oldest` for PENDING, else `newest`."""
    return "oldest" if status == "PENDING" else DEFAULTS["sort"]


class ListedRow(msgspec.Struct):
    """An order of the list, as far as the page shows it."""

    order_id: str
    status: str
    user_id: str
    placed_at: datetime
    reason: str | None = None
    ended_at: datetime | None = None
    total: int | None = None
    amount_due: int | None = None
    coupon_id: str | None = None

    @property
    def place(self) -> str:
        """The row's place in a list sorted by time, then id, as `<number> <order id>`.

        The number is when the order was placed, in microseconds since 1970 (UTC).
        """
        return f"{microseconds(self.placed_at)} {self.order_id}"


class ListedPage(NamedTuple):
    """A page of a list of orders. `following`: the cursor of the next page; empty on the last.

    Only a search sets the others: `why` nothing was found (empty: something was), `notes` for the reader, the `command`
    that finds the same, and `by`, the time of an order (`placed` or `ended`) by which the page is sorted and bounded.
    """

    rows: Sequence[ListedRow]
    following: str
    why: str = ""
    notes: Sequence[str] = ()
    command: str = ""
    by: str = ""


async def listed(
    http: httpx.AsyncClient, order: ServiceAddress, wanted: Filters, cursor: str = "", limit: int = PAGE
) -> ListedPage:
    """Ask order_svc for a page of at most `limit` orders from `cursor` on (empty: the first); SEARCHED are not sent.

    Raises Problem (400), with order_svc's words, for a wrong filter or cursor; Unreachable if order_svc gives no usable
    answer.
    """
    asked = {name: value for name, value in wanted._asdict().items() if name not in SEARCHED}
    query = urlencode(asked | {"cursor": cursor, "limit": str(limit)})
    request = ServiceRequest(order, "GET", f"{PATH}?{query}")
    answer = await ask_with(http, request, {200, 400}, TIMEOUT_S)
    if answer.status == 400:
        raise Problem(400, "invalid-request", problem(answer).removeprefix("400: "))
    try:
        rows = msgspec.convert(answer.body["orders"], list[ListedRow])
        following = answer.body["next"] or ""
    except (KeyError, msgspec.ValidationError) as error:
        raise Unreachable(f"{order} answers {request} with something else: {error}") from error
    return ListedPage(rows, str(following))


def newer(rows: Sequence[ListedRow], than: str) -> int:
    """Return how many of these rows are newer than the row whose `place` is `than`; 0 if `than` is no place.

    The row of that place need not be among `rows`: an order that ends leaves the pending ones.
    """
    placed, _, order_id = than.partition(" ")
    if not (placed.isascii() and placed.isdecimal() and len(placed) <= MOST_DIGITS):
        return 0
    return sum((microseconds(row.placed_at), row.order_id) > (int(placed), order_id) for row in rows)


def why_none(wanted: Filters, seen: Snapshot | None) -> str:
    """Say why a list is empty: no order fits the filters; and how far the list has read (see `list_lag`)."""
    return f"no order {f'with {wanted.words}' if wanted.words else 'was placed yet'}; {list_lag(seen)}"


def list_lag(seen: Snapshot | None) -> str:
    """Say how many facts order_svc's list of orders has yet to read, by its own numbers, or that this is not known."""
    lags = _told(seen, "saga_view_lag_facts", view="orders")
    if not lags:
        return "how far the list has read is not known now"
    return f"the list has yet to read {lags[0]:,.0f} facts" if lags[0] else "the list has read all facts"


def stream_lag(seen: Snapshot | None) -> str:
    """Return a clause such as `order_svc has yet to publish 3 facts`, by order_svc's own numbers.

    Other clauses: it has published all its facts; whether it has is not known now, such as with `seen` None.
    """
    lags = _told(seen, "saga_relay_lag_facts", service="order")
    if not lags:
        return "whether order_svc has published all its facts is not known now"
    return f"order_svc has yet to publish {lags[0]:,.0f} facts" if lags[0] else "order_svc has published all its facts"


def _told(seen: Snapshot | None, name: str, service: str = "", **labels: str) -> list[float]:
    """Return the values of this metric with these labels, of one service or (empty `service`) all; empty: none told."""
    services = () if seen is None else [one for one in seen.look.services if service in ("", one.service.name)]
    return [found.value for one in services for found in one.samples.having(name, labels)]


def choices() -> dict[str, Any]:
    """Return the values among which the form of the filters lets a person choose, by their names in the template."""
    return {"statuses": STATUSES, "compensations": COMPENSATED, "reasons": ("ANY", *REASONS), "sorts": SORTS}
