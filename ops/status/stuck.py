"""Names the orders that wait longest, and says what each waits for: by the facts that order_svc tells of them."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

import httpx
import msgspec

from contracts.fact import Timestamp
from contracts.step import fact_name
from ops.client import ServiceAddress, ServiceRequest, problem, send_with
from ops.errors import Unreachable
from ops.status.counts import COMPENSATED_LATE_S, LATE_S
from ops.status.figures import Figures
from order_svc.compensation import open_steps
from order_svc.waits import PublishedAt, waits_for

MOST: Final = 3
PENDING: Final = f"/ops/orders?status=PENDING&limit={MOST}"
UNCOMPENSATED: Final = "/ops/orders?compensated=no&limit=100"
"""They come by when they were placed; who waits longest was canceled first."""


class StuckOrder(NamedTuple):
    """An order that waits `since` an instant (a pending one: when it was placed; a canceled one: when it was canceled).

    `waits_for`: in words.
    """

    order_id: str
    status: str
    since: datetime
    waits_for: str


class Stuck(NamedTuple):
    """The orders that wait longest. `trouble`: why they cannot be named; empty if they can."""

    orders: Sequence[StuckOrder] = ()
    trouble: str = ""


class _Row(msgspec.Struct):
    order_id: str
    user_id: str
    status: str
    placed_at: Timestamp
    ended_at: Timestamp | None = None


class _Step(msgspec.Struct):
    fact: str
    at: Timestamp


class _History(msgspec.Struct):
    reason: str | None = None
    steps: list[_Step] | None = None
    unavailable: str | None = None


class _Page(msgspec.Struct):
    orders: list[_Row]


T = TypeVar("T")


async def stuck(http: httpx.AsyncClient, order: ServiceAddress, seen: Figures, timeout_s: float) -> Stuck:
    """Ask order_svc for up to MOST (3) pending orders and 3 canceled ones not compensated: those that wait longest.

    Of more than 100 canceled ones, the 100 placed first are looked at. Each kind is asked for only if its oldest is
    late, by `seen`. Raises nothing if order_svc does not answer within `timeout_s` seconds: then `trouble` says so.
    """
    paths = [
        *([PENDING] if seen.oldest_pending_s > LATE_S else []),
        *([UNCOMPENSATED] if seen.oldest_uncompensated_s > COMPENSATED_LATE_S else []),
    ]
    if not paths:
        return Stuck()
    try:
        lists = await asyncio.gather(*(_rows(http, order, path, timeout_s) for path in paths))
        rows = [row for listed in lists for row in sorted(listed, key=_waits_since)[:MOST]]
        return Stuck(await asyncio.gather(*(_order(http, order, row, timeout_s) for row in rows)))
    except Unreachable as error:
        return Stuck(trouble=str(error))


async def _rows(http: httpx.AsyncClient, order: ServiceAddress, path: str, timeout_s: float) -> list[_Row]:
    return (await _asked(http, ServiceRequest(order, "GET", path), timeout_s, _Page)).orders


def _waits_since(row: _Row) -> datetime:
    return row.ended_at or row.placed_at


async def _order(http: httpx.AsyncClient, order: ServiceAddress, row: _Row, timeout_s: float) -> StuckOrder:
    request = ServiceRequest(order, "GET", f"/orders/{row.order_id}", headers={"X-User-Id": row.user_id})
    history = await _asked(http, request, timeout_s, _History)
    if history.steps is None:
        words = f"not known: {history.unavailable}"
    elif row.status == "PENDING":
        words = pending_words({step.fact: PublishedAt(n, step.at) for n, step in enumerate(history.steps, 1)})
    else:
        words = canceled_words(history.reason or "", [step.fact for step in history.steps])
    return StuckOrder(row.order_id, row.status, _waits_since(row), words)


async def _asked(http: httpx.AsyncClient, request: ServiceRequest, timeout_s: float, kind: type[T]) -> T:
    """Return the answer's JSON as this type. Raises Unreachable for another status than 200, and for other JSON.

    Raises it, too, without the whole answer within `timeout_s` seconds.
    """
    answer = await send_with(http, request, timeout_s)
    if answer.status != 200:
        raise Unreachable(f"{request.service} answers {request} with {problem(answer)}")
    try:
        return msgspec.convert(answer.body, kind)
    except msgspec.ValidationError as error:
        raise Unreachable(f"{request.service} answers {request} with something else: {error}") from error


def pending_words(facts: Mapping[str, PublishedAt]) -> str:
    """Say which services have to answer which facts of a pending order.

    `facts`: the order's facts by name, numbered from 1 as they came; empty: order_svc has not published it. If no
    service has to answer, its end is yet to be listed.
    """
    names = {fact: name for name, fact in facts.items()}
    found = [f"{service}_svc to answer {names[heard]}" for service, heard in waits_for(facts).items()]
    return " and ".join(found) or ("its end to be listed" if facts else "order_svc to publish it")


def canceled_words(reason: str, facts: Sequence[str]) -> str:
    """Say which facts are still missing until an order that was canceled for this reason is compensated.

    `facts`: the names of those that it has. Each missing one is an undo or a fence. None missing: `nothing any more`.
    """
    found = [
        f"{step.service}_svc to say {fact_name(step.undone)} or {fact_name(step.fenced)}"
        for step in open_steps(reason, facts)  # type: ignore[arg-type]  # newer code may have other reasons
    ]
    return " and ".join(found) or "nothing any more"
