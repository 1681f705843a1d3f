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
    """What an address asks for, as texts. What `filters` gives without it is left out of addresses."""

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
        """Whether order_svc's log has to be searched for these."""
        return any(getattr(self, name) for name in SEARCHED)

    def query(self, **more: str) -> str:
        """Return the query of the address with these filters, and `more` in it: `filters` reads the same from it."""
        usual = DEFAULTS | {"sort": usual_sort(self.status)}
        chosen = {name: value for name, value in self._asdict().items() if value != usual[name]}
        return urlencode(chosen | more)

    @property
    def words(self) -> str:
        """Say which filters are set; empty for none."""
        chosen = {name: value for name, value in self._asdict().items() if value != DEFAULTS[name] and name != "sort"}
        return ", ".join(f"{name} {value}" for name, value in chosen.items())


def filters(parameters: Mapping[str, str]) -> Filters:
    """Return the filters of an address; what is empty or missing is the default. order_svc refuses wrong values.

    A search has the newest first, whatever the address says.
    """
    chosen = {name: value for name, value in parameters.items() if name in DEFAULTS and value.strip()}
    if any(chosen.get(name) for name in SEARCHED):
        chosen["sort"] = DEFAULTS["sort"]
    chosen.setdefault("sort", usual_sort(chosen.get("status", DEFAULTS["status"])))
    return Filters(**chosen)


def usual_sort(status: str) -> str:
    """Return how a list with this status is sorted unless the address says it: stuck orders are the oldest ones."""
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
        """Where order_svc's list has it, whose order is that of time and id."""
        return f"{microseconds(self.placed_at)} {self.order_id}"


class ListedPage(NamedTuple):
    """A page of the list. `following`: the cursor of the next one; empty on the last.

    Of a search: `why` nothing was found, `notes` that the reader has to know, the `command` that finds the same, and
    `by` which of an order's times the page is sorted and bounded.
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
    """Ask order_svc for a page. Raises Problem (400) with its words for a wrong filter; Unreachable."""
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
    """Return how many of these rows are newer than the one whose `place` is `than`; none if that is no place.

    That row may have left the list, as an order that ends leaves the pending ones.
    """
    placed, _, order_id = than.partition(" ")
    if not (placed.isascii() and placed.isdecimal() and len(placed) <= MOST_DIGITS):
        return 0
    return sum((microseconds(row.placed_at), row.order_id) > (int(placed), order_id) for row in rows)


def why_none(wanted: Filters, seen: Snapshot | None) -> str:
    """Say why a list is empty: nothing fits the filters, or the list is behind."""
    return f"no order {f'with {wanted.words}' if wanted.words else 'was placed yet'}; {list_lag(seen)}"


def list_lag(seen: Snapshot | None) -> str:
    """Say how far the list of orders has read, which order_svc's numbers say."""
    lags = _told(seen, "saga_view_lag_facts", view="orders")
    if not lags:
        return "how far the list has read is not known now"
    return f"the list has yet to read {lags[0]:,.0f} facts" if lags[0] else "the list has read all facts"


def stream_lag(seen: Snapshot | None) -> str:
    """Say whether all facts of orders are in the stream, which order_svc's numbers say."""
    lags = _told(seen, "saga_relay_lag_facts", service="order")
    if not lags:
        return "whether order_svc has published all its facts is not known now"
    return f"order_svc has yet to publish {lags[0]:,.0f} facts" if lags[0] else "order_svc has published all its facts"


def _told(seen: Snapshot | None, name: str, service: str = "", **labels: str) -> list[float]:
    """Return the values that services, or this one, have told for this metric; none if they are away."""
    services = () if seen is None else [one for one in seen.look.services if service in ("", one.service.name)]
    return [found.value for one in services for found in one.samples.having(name, labels)]


def choices() -> dict[str, Any]:
    """Return what the form of the filters offers."""
    return {"statuses": STATUSES, "compensations": COMPENSATED, "reasons": ("ANY", *REASONS), "sorts": SORTS}
