"""Asks the services about the streams (of aggregates) that changed last, and keeps the answers comparable with the cut.

An answer is comparable if its stream has no fact after the cut in a log that is read after the answer came. The other
answers are counted, not judged.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx
import msgspec

from infra.core.decider import category
from infra.local.services import service_url
from ops.audit.cut import Cut, ServiceLogs
from ops.audit.report import Answers
from ops.client import TIMEOUT_S
from ops.errors import Unreachable
from ops.invariants import Checker, CouponSeen, Live, OrderSeen, ProductSeen

AT_A_TIME: Final = 16
LOOK_BACK: Final = 20  # records for each answer that is wanted
NEWER: Final = "/problems/of-newer-code"
CATEGORIES: Final = ("product", "account", "coupon", "order")

Seen = ProductSeen | int | CouponSeen | OrderSeen


class UnknownToService(Exception):
    """The service refused to answer, because newer code recorded a fact that the answer needs."""


class _Order(msgspec.Struct):
    user_id: str


class _Body(msgspec.Struct):
    order: _Order | None = None


async def ask(env: Mapping[str, str], logs: ServiceLogs, cut: Cut, checker: Checker, most: int) -> tuple[Live, Answers]:
    """Ask each service for up to `most` products, accounts, coupons or orders, those that changed last before the cut.

    Call it once `checker` has taken all facts up to the cut. Returns the comparable answers, and how many were
    comparable or not. Raises Unreachable if a service does not answer or reports an error; SettingsError, StoreError.
    """
    streams = [stream for name in logs for stream in await _busy(logs, cut, name, most)]
    known = {stream: checker.facts.last_version(stream) for stream, _ in streams}
    at_a_time = asyncio.Semaphore(AT_A_TIME)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:

        async def answer(stream: str, body: bytes) -> Seen | UnknownToService | None:
            async with at_a_time:
                try:
                    return await _answer(http, env, stream, body)
                except UnknownToService as refused:
                    return refused

        try:
            found = await asyncio.gather(*(answer(*stream) for stream in streams))
        except httpx.HTTPError as error:
            raise Unreachable(
                f"a service does not answer ({error!r}); --answers 0 audits the logs and the stream alone"
            ) from error
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
    return live, Answers(len(streams) - len(moved_on) - newer, len(moved_on), newer)


async def _busy(logs: ServiceLogs, cut: Cut, service: str, most: int) -> Sequence[tuple[str, bytes]]:
    """Return up to `most` streams of a service that can be asked about, the one that changed last first.

    Each comes with the body of its newest fact within the cut. Only the last LOOK_BACK * `most` records are searched.
    Raises StoreError.
    """
    end = cut.logs[service]
    found: dict[str, bytes] = {}
    for record in reversed(await logs[service].select_notifications(max(0, end - LOOK_BACK * most), LOOK_BACK * most)):
        if record.position <= end and category(record.originator_id) in CATEGORIES and len(found) < most:
            found.setdefault(record.originator_id, record.state)
    return list(found.items())


async def _answer(http: httpx.AsyncClient, env: Mapping[str, str], stream: str, body: bytes) -> Seen | None:
    kind, _, key = stream.partition("-")
    match kind:
        case "product":
            told = await _get(http, env, "product", f"/products/{key}")
            return None if told is None else ProductSeen(told["price"], told["available"])
        case "account":
            told = await _get(http, env, "point", f"/points/{key}")
            return 0 if told is None else int(told["balance"])
        case "coupon":
            told = await _get(http, env, "coupon", f"/coupons/{key}")
            return None if told is None else CouponSeen(told["user_id"], told["discount"], told["order_id"])
        case _:
            order = msgspec.json.decode(body, type=_Body).order
            told = await _get(http, env, "order", f"/orders/{key}", "" if order is None else order.user_id)
            if told is None:
                return OrderSeen("unknown", None, None, None, None)
            return OrderSeen(told["status"], told["reason"], told["total"], told["discount"], told["amount_due"])


async def _get(
    http: httpx.AsyncClient, env: Mapping[str, str], service: str, path: str, user: str | None = None
) -> dict[str, Any] | None:
    """GET `path` from a service, in the name of `user` if given. Returns the JSON object; None for a 404.

    Raises UnknownToService, httpx.HTTPError for any other status than 2xx, or without an answer; SettingsError.
    """
    told = await http.get(service_url(service, env) + path, headers={} if user is None else {"X-User-Id": user})
    if told.status_code == 404:
        return None
    if told.status_code == 503 and told.json().get("type") == NEWER:
        raise UnknownToService
    told.raise_for_status()
    return dict(told.json())
