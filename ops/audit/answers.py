"""Asks the services about the streams (of aggregates) that changed last, and selects the answers to compare.

An answer is comparable if its stream has no fact after the cut in a log that is read after the answer came. The other
answers are counted, not judged.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from contracts.fact import DECODE_ERRORS
from contracts.ids import is_id
from infra.core.decider import category
from infra.local.readiness import why_not_ready
from ops.audit.cut import Cut, ServiceLogs
from ops.audit.report import Answers
from ops.client import GOOD, ServiceAddress, ServiceRequest, UnexpectedAnswer, ask_with, http_client
from ops.errors import Unreachable
from ops.invariants import Checker, CouponSeen, Live, OrderSeen, ProductSeen
from ops.progress import Watch

AT_A_TIME: Final = 16
LOOK_BACK: Final = 20  # records for each answer that is wanted
NEWER: Final = "/problems/of-newer-code"
CATEGORIES: Final = ("product", "account", "coupon", "order")

Seen = ProductSeen | int | CouponSeen | OrderSeen


class UnknownToService:
    """The service refused to answer, because newer code recorded a fact that the answer needs."""


class _Order(msgspec.Struct):
    user_id: str


class _Body(msgspec.Struct):
    order: _Order | None = None


class AnswerOptions(NamedTuple):
    """Where the services are, and how long, in seconds, to wait for an answer.

    The service of each log is asked; with `ready`, only if it is ready. `services` must have the address of each,
    ready or not. `most`: the largest number of streams that one service is asked about.
    """

    services: Mapping[str, ServiceAddress]
    most: int
    timeout_s: float
    ready: bool = False


async def ask(how: AnswerOptions, logs: ServiceLogs, cut: Cut, checker: Checker, watch: Watch) -> tuple[Live, Answers]:
    """Ask the services for products, accounts, coupons or orders: up to `how.most` each, changed last within the cut.

    With `how.ready`, services that are not ready are not asked. Call it after `checker` has taken all facts up to the
    cut. Returns the comparable answers; and how many were comparable, were not, or were refused because of newer code.
    Raises Unreachable if a service gives no answer in time, or one that cannot be used; StoreError.
    """
    not_asked = await _not_ready(how.services, logs) if how.ready else []
    names = [name for name in logs if name not in not_asked]
    streams = [stream for name in names for stream in await _busy(logs, cut, name, how.most)]
    watch.begins(f"asking {', '.join(f'{name}_svc' for name in names)}", len(streams))
    known = {stream: checker.facts.last_version(stream) for stream, _ in streams}
    at_a_time = asyncio.Semaphore(AT_A_TIME)
    async with http_client() as http:

        async def answer(stream: str, user: str | None) -> Seen | UnknownToService | None:
            seen: Seen | UnknownToService | None
            async with at_a_time:
                try:
                    seen = await _answer(http, how, stream, user)
                except UnexpectedAnswer as refused:
                    if refused.answer.body.get("type") != NEWER:
                        raise
                    seen = UnknownToService()
            watch.advances(1)
            return seen

        tasks = [asyncio.create_task(answer(*stream)) for stream in streams]
        try:
            found = await asyncio.gather(*tasks)
        except Unreachable as error:
            raise Unreachable(f"{error}; --answers 0 audits the logs and the stream alone") from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    later = [(stream, version + 1) for stream, version in known.items()]
    moved_on = {record.originator_id for log in logs.values() for record in await log.find_all(later)}
    seen: dict[str, dict[str, Any]] = {kind: {} for kind in CATEGORIES}
    newer = 0
    for (stream, _), one in zip(streams, found, strict=True):
        if isinstance(one, UnknownToService):
            newer += stream not in moved_on
        elif stream not in moved_on:
            seen[category(stream)][stream.partition("-")[2]] = one
    live = Live(seen["product"], seen["account"], seen["coupon"], seen["order"])
    return live, Answers(len(streams) - len(moved_on) - newer, len(moved_on), newer, not_asked)


async def _not_ready(services: Mapping[str, ServiceAddress], names: Iterable[str]) -> list[str]:
    """Ask the services of these names whether they are ready, and return the names of those that are not."""
    why = {name: await asyncio.to_thread(why_not_ready, services[name].url) for name in names}
    return [name for name, wrong in why.items() if wrong is not None]


async def _busy(logs: ServiceLogs, cut: Cut, service: str, most: int) -> Sequence[tuple[str, str | None]]:
    """Return up to `most` aggregates' streams of a service that can be asked about, the one that changed last first.

    Each comes with the id of the order's customer, whom the order's newest fact within the cut names; None for other
    streams. Without the id order_svc would refuse to answer, so an order whose newest fact cannot be read is left out:
    that fact is a finding, or of newer code. Only the last LOOK_BACK (20) * `most` records are searched. Raises
    StoreError.
    """
    end = cut.logs[service]
    found: dict[str, str | None] = {}
    for record in reversed(await logs[service].select_notifications(max(0, end - LOOK_BACK * most), LOOK_BACK * most)):
        if record.position <= end and category(record.originator_id) in CATEGORIES and len(found) < most:
            kind = category(record.originator_id)
            found.setdefault(record.originator_id, _customer(record.state) if kind == "order" else None)
    return [(stream, user) for stream, user in found.items() if user is not None or category(stream) != "order"]


def _customer(body: bytes) -> str | None:
    try:
        order = msgspec.json.decode(body, type=_Body).order
    except DECODE_ERRORS:
        return None
    return order.user_id if order is not None and is_id(order.user_id) else None


async def _answer(http: httpx.AsyncClient, how: AnswerOptions, stream: str, user: str | None) -> Seen | None:
    """Ask the service about one aggregate's stream, and return its answer; None: it has no such product or coupon.

    `user`: the id of an order's customer; None: the stream is no order's.

    For an account that point_svc does not know, return 0. For an order that order_svc does not know, return an
    OrderSeen with the status `unknown`. Raises Unreachable, also for an answer without the fields that it must have.
    """
    kind, _, key = stream.partition("-")

    async def told(service: str, path: str) -> dict[str, Any] | None:
        headers = {} if user is None else {"X-User-Id": user}
        request = ServiceRequest(how.services[service], "GET", f"{path}/{quote(key, safe='')}", None, headers)
        answer = await ask_with(http, request, GOOD | {404}, how.timeout_s)
        return None if answer.status == 404 else answer.body

    try:
        match kind:
            case "product":
                found = await told("product", "/products")
                return None if found is None else ProductSeen(found["price"], found["available"])
            case "account":
                found = await told("point", "/points")
                return 0 if found is None else int(found["balance"])
            case "coupon":
                found = await told("coupon", "/coupons")
                return None if found is None else CouponSeen(found["user_id"], found["discount"], found["order_id"])
            case _:
                found = await told("order", "/orders")
                if found is None:
                    return OrderSeen("unknown", None, None, None, None)
                return OrderSeen(
                    found["status"], found["reason"], found["total"], found["discount"], found["amount_due"]
                )
    except (KeyError, TypeError, ValueError) as error:
        raise Unreachable(f"a service's answer about {stream} lacks what it must have: {error!r}") from error
