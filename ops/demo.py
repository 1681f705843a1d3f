"""`just demo`: place, on a system of its own, one order that succeeds and one for each step's refusal.

Every answer, fact, cause and balance is checked.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import nats
from nats.aio.msg import Msg

from contracts import (
    CouponUsed,
    CouponUseFailed,
    Fact,
    OrderCanceled,
    OrderConfirmed,
    PointRefunded,
    PointUsed,
    PointUseFailed,
    ProductReserved,
    ProductReserveFailed,
    ProductStockHeld,
    ProductStockReturned,
)
from contracts.wire import COMPENSATIONS, MSG_ID, NAMES, decode, said_by
from infra import signals
from infra.broker.streams import EVENTS
from infra.local.own_system import OwnSystem
from infra.local.processes import StartFailed
from infra.usage import take_no_arguments
from ops.client import request
from ops.errors import Unreachable

PATIENCE_S: Final = 15.0
"""Seconds that one order's facts may take to arrive. They take milliseconds."""

USER: Final = "u1"

# The orders -----------------------------------------------------------------------------------------------------------

CausedFact = tuple[str, str | None]
"""The name of a fact, and the name of the fact that caused it (None: the customer's request)."""

ACCEPTED: Final[CausedFact] = ("order.created.pending", None)
HELD: Final[CausedFact] = ("product.stock.held", "order.created.pending")
RESERVED: Final[CausedFact] = ("product.reserved", "order.created.pending")
USED: Final[CausedFact] = ("point.used", "product.reserved")


@dataclass(frozen=True)
class Case:
    """An order to place, and what must follow from it.

    `facts` must be published as often as they are listed, with these causes, and no others. `amounts`: fields of the
    answer, in won. `refusal`: the problem's type without `/problems/`; None: the order must be confirmed. `changes`:
    the balances that differ afterwards, by their names in START. `asks` is printed.
    """

    title: str
    asks: str
    lines: Mapping[str, int]
    points: int
    coupon: str
    facts: Sequence[CausedFact]
    amounts: Mapping[str, int] = field(default_factory=dict)
    refusal: str | None = None
    changes: Mapping[str, int | str] = field(default_factory=dict)


START: Final[Mapping[str, int | str]] = {
    "mugs in stock": 10,
    "lamps in stock": 1,
    f"points of {USER}": 5_000,
    "coupon c1": "free",
    "coupon c2": "free",
}

CASES: Final = (
    Case(
        "Everything is there",
        "2 mugs and the last lamp, with 500 points and coupon c1",
        lines={"mug": 2, "lamp": 1},
        points=500,
        coupon="c1",
        facts=[
            ACCEPTED,
            HELD,
            HELD,
            RESERVED,
            USED,
            ("coupon.used", "point.used"),
            ("order.confirmed", "coupon.used"),
        ],
        amounts={"total": 54_000, "points": 500, "discount": 3_000, "amount_due": 50_500},
        changes={"mugs in stock": 8, "lamps in stock": 0, f"points of {USER}": 4_500, "coupon c1": "order 1"},
    ),
    Case(
        "Product refuses",
        "a mug and a lamp: there is no lamp left, so the mug is not taken either",
        lines={"mug": 1, "lamp": 1},
        points=500,
        coupon="c2",
        facts=[
            ACCEPTED,
            ("product.reserve.failed", "order.created.pending"),
            ("order.canceled", "product.reserve.failed"),
        ],
        refusal="product-out-of-stock",
    ),
    Case(
        "Point refuses",
        "a mug with 9,000 points: there are fewer, so the mug goes back",
        lines={"mug": 1},
        points=9_000,
        coupon="c2",
        facts=[
            ACCEPTED,
            HELD,
            RESERVED,
            ("point.use.failed", "product.reserved"),
            ("product.stock.returned", "point.use.failed"),
            ("product.released", "point.use.failed"),
            ("order.canceled", "point.use.failed"),
        ],
        refusal="points-insufficient",
    ),
    Case(
        "Coupon refuses",
        "a mug with 500 points and coupon c1, which order 1 has used: points and mug go back",
        lines={"mug": 1},
        points=500,
        coupon="c1",
        facts=[
            ACCEPTED,
            HELD,
            RESERVED,
            USED,
            ("coupon.use.failed", "point.used"),
            ("point.refunded", "coupon.use.failed"),
            ("product.stock.returned", "coupon.use.failed"),
            ("product.released", "coupon.use.failed"),
            ("order.canceled", "coupon.use.failed"),
        ],
        refusal="coupon-already-used",
    ),
)

# The facts ------------------------------------------------------------------------------------------------------------


class PublishedFact(NamedTuple):
    """A published fact and its id; `name` is the fact's name, such as `order.confirmed`."""

    fact_id: str
    fact: Fact

    @property
    def name(self) -> str:
        return NAMES[type(self.fact)]


class Witness:
    """Collects the facts that `take`, the callback of its subscriptions, receives.

    `facts` has each once, by its id, in the order in which they arrived.
    """

    def __init__(self) -> None:
        self.facts: dict[str, PublishedFact] = {}
        self._more = asyncio.Event()

    async def take(self, message: Msg) -> None:
        fact_id = (message.headers or {})[MSG_ID]
        self.facts.setdefault(fact_id, PublishedFact(fact_id, decode(message.data)))
        self._more.set()

    def about(self, order_id: str) -> list[PublishedFact]:
        return [said for said in self.facts.values() if getattr(said.fact, "order_id", None) == order_id]

    async def until(self, order_id: str, count: int) -> list[PublishedFact]:
        """Wait until `count` facts of the order have arrived, at most PATIENCE_S; return those that have.

        There may be fewer or more than `count`.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(self.about(order_id)) < count:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pass
        return self.about(order_id)

    def steps(self, facts: Sequence[PublishedFact]) -> list[CausedFact]:
        """Return the name of each fact with the name of its cause. A cause that is not in `facts` is named by its id.

        Facts of two services may arrive in another order than the broker stored them.
        """
        known = {published.fact_id: published.name for published in facts}
        causes = ((published.name, published.fact.cause) for published in facts)
        return [(name, None if cause is None else known.get(cause, cause)) for name, cause in causes]


class Demo:
    """Places the orders of CASES on a new system, prints what happens, then stops its services.

    `wrong` has a sentence for each result that is not as the case says; empty: all are.
    """

    def __init__(self, system: OwnSystem) -> None:
        self.wrong: list[str] = []
        self._system = system
        self._orders: dict[str, str] = {}
        self._balances = [START]
        self._witness = Witness()

    async def run(self) -> None:
        broker = await nats.connect(f"nats://127.0.0.1:{self._system.env['NATS_PORT']}", allow_reconnect=False)
        try:
            events = broker.jetstream()
            for subject in (await events.stream_info(EVENTS)).config.subjects or ():
                await broker.subscribe(subject, cb=self._witness.take)
            await broker.flush()
            await self._open_shop()
            for number, case in enumerate(CASES, 1):
                await self._place(number, case)
            print(table(self._balances))
            # A service that is stopped has published everything, so no more facts can come.
            for name, code in (await asyncio.to_thread(self._system.stop_services)).items():
                self._check(f"{name}_svc's exit code", code, 0)
            await broker.flush()
            for (order_id, label), case in zip(self._orders.items(), CASES, strict=True):
                steps, must_be = Counter(self._witness.steps(self._witness.about(order_id))), Counter(case.facts)
                self._check(f"{label}: facts (with their causes) that are not expected", list(steps - must_be), [])
                self._check(f"{label}: facts (with their causes) that are missing", list(must_be - steps), [])
            stored = (await events.stream_info(EVENTS)).state.messages
            self._check("facts in the stream", stored, len(self._witness.facts))
        finally:
            await broker.close()

    async def _open_shop(self) -> None:
        for product_id, name, price, stock in (("mug", "Mug", 12_000, 10), ("lamp", "Lamp", 30_000, 1)):
            body = {"product_id": product_id, "name": name, "price": price, "stock": stock}
            self._created(await self._ask("POST", "product", "/products", body))
        charge = await self._ask("POST", "point", f"/points/{USER}/charge", {"amount": 5_000}, {"Idempotency-Key": "1"})
        self._created(charge)
        for coupon_id in ("c1", "c2"):
            body = {"coupon_id": coupon_id, "user_id": USER, "discount": 3_000, "expires_at": "2099-12-31T00:00:00Z"}
            self._created(await self._ask("POST", "coupon", "/coupons", body))
        self._check("balances before the first order", await self._read_balances(), START)

    async def _place(self, number: int, case: Case) -> None:
        label = f"order {number}"
        body = {
            "lines": [{"product_id": product, "quantity": quantity} for product, quantity in case.lines.items()],
            "points": case.points,
            "coupon_id": case.coupon,
        }
        print(f"{bold(f'{number}. {case.title}')}: {case.asks}")
        answer = await self._ask("POST", "order", "/orders", body, {"X-User-Id": USER})
        order_id = str(answer.json().get("order_id", ""))
        self._orders[order_id] = label
        facts = await self._witness.until(order_id, len(case.facts))
        for line in story(facts):
            print(line)
        print(f"   {verdict(answer)}\n")
        told = answer.json()
        if case.refusal is None:
            got = {name: told.get(name) for name in case.amounts}
            self._check(f"{label}: answer", (answer.status_code, told.get("status")), (200, "CONFIRMED"))
            self._check(f"{label}: amounts", got, case.amounts)
        else:
            refused = (answer.status_code, told.get("type"), told.get("order_status"))
            self._check(f"{label}: answer", refused, (409, f"/problems/{case.refusal}", "CANCELED"))
            view = (await self._ask("GET", "order", f"/orders/{order_id}", headers={"X-User-Id": USER})).json()
            self._check(f"{label}: compensated", view.get("compensated"), True)
        balances = await self._read_balances()
        self._check(f"{label}: balances afterwards", balances, {**self._balances[-1], **case.changes})
        self._balances.append(balances)

    async def _read_balances(self) -> Mapping[str, int | str]:
        async def read(service: str, path: str, name: str) -> Any:
            return (await self._ask("GET", service, path)).json().get(name)

        users = [await read("coupon", f"/coupons/{coupon}", "order_id") for coupon in ("c1", "c2")]
        return {
            "mugs in stock": await read("product", "/products/mug", "available"),
            "lamps in stock": await read("product", "/products/lamp", "available"),
            f"points of {USER}": await read("point", f"/points/{USER}", "balance"),
            **{
                f"coupon {coupon}": "free" if user is None else self._orders.get(user, user)
                for coupon, user in zip(("c1", "c2"), users, strict=True)
            },
        }

    async def _ask(
        self, method: str, service: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        return await asyncio.to_thread(request, method, self._system.url(service) + path, body, headers)

    def _created(self, answer: httpx.Response) -> None:
        self._check("opening the shop", (answer.status_code, answer.json().get("detail")), (201, None))

    def _check(self, what: str, found: object, must_be: object) -> None:
        if found != must_be:
            self.wrong.append(f"{what}: is {found}, must be {must_be}")


# What is printed ------------------------------------------------------------------------------------------------------

COLOURS: Final = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def coloured(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOURS else text


def bold(text: str) -> str:
    return coloured("1", text)


def story(facts: Sequence[PublishedFact]) -> list[str]:
    """Return a line for each fact: milliseconds since the first of them, service, fact, detail.

    Compensations are red and marked by an arrow.
    """
    lines = []
    for said in facts:
        since_ms = (said.fact.at - facts[0].fact.at).total_seconds() * 1_000
        mark = "↩" if said.name in COMPENSATIONS else " "
        line = f"   {since_ms:6.1f} ms  {said_by(said.name):<7} {mark} {said.name:<22}  {detail(said.fact)}".rstrip()
        lines.append(coloured("31", line) if said.name in COMPENSATIONS else line)
    return lines


def detail(fact: Fact) -> str:
    match fact:
        case ProductStockHeld() | ProductStockReturned():
            return f"{fact.quantity} x {fact.product_id}"
        case ProductReserved():
            return f"{fact.total:,} won in total"
        case PointUsed() | PointRefunded():
            return f"{fact.points:,} points"
        case CouponUsed():
            return f"{fact.coupon_id}: {fact.discount:,} won off"
        case OrderConfirmed():
            return f"{fact.amount_due:,} won due"
        case ProductReserveFailed() | PointUseFailed() | CouponUseFailed() | OrderCanceled():
            return fact.reason
        case _:
            return ""


def verdict(answer: httpx.Response) -> str:
    if answer.status_code == 200:
        return coloured("32", "=> 200 CONFIRMED")
    told = answer.json()
    return f"=> {answer.status_code} {told.get('order_status', '')} {told.get('detail', '')}"


def table(balances: Sequence[Mapping[str, int | str]]) -> str:
    """Return the balances as a table: a row for each balance, a column for the start and for after each order."""
    titles = ["at first", *(f"after {number}" for number in range(1, len(balances)))]
    rows = [bold(f"{'Balances':<18}" + "".join(f"{title:>10}" for title in titles))]
    for name in balances[0]:
        values = [balance[name] for balance in balances]
        cells = (f"{value:,}" if isinstance(value, int) else str(value) for value in values)
        rows.append(f"{name:<18}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(rows)


def just() -> str:
    """Return the command with which the user can start another recipe: `just`, or `just` by this process's uv."""
    uv = os.environ.get("UV")
    if uv is None:
        return "just"
    if shutil.which("uv") == uv:
        return "uv run just"
    return f"{os.path.relpath(uv)} run just"


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: all processes that were started must be stopped
        signal.signal(number, signal.default_int_handler)
    take_no_arguments(f"{__doc__}\nExit codes: 0 all is as expected, 1 something is not, 130 stopped before its end.")
    sys.stdout.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]
    began = time.perf_counter()
    print("Starting a broker and four services on free ports, their data in a temporary folder ...")
    try:
        signals.release()
        with (
            tempfile.TemporaryDirectory(prefix="saga-demo-") as folder,
            OwnSystem(Path(folder), ORDER_WAIT_S="10", ORDER_DEADLINE_S="30") as system,
        ):
            print(f"Ready after {time.perf_counter() - began:.1f} s. Each order below is followed by its facts.\n")
            demo = Demo(system)
            asyncio.run(demo.run())
    except (StartFailed, Unreachable) as error:
        sys.stderr.write(f"The demo could not be run: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped before its end.\n")
        return 130
    if demo.wrong:
        sys.stderr.write(
            "\n".join([coloured("31", "Some results are not as expected:"), *(f"  {w}" for w in demo.wrong), ""])
        )
        return 1
    took_s = time.perf_counter() - began
    print(
        f"\nEvery answer, fact, cause and balance is exactly as expected ({took_s:.1f} s in all).\n"
        f"Next: `{just()} up` runs the system for you; in another terminal `{just()} place --help` tells how to order."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
