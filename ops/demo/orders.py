"""Places one order that succeeds and one for each step's refusal, and checks every answer, fact, cause and balance."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from infra.broker.numbering import EVENTS
from infra.local.own_system import OwnSystem
from ops import reading
from ops.client import ServiceAddress, ServiceAnswer, ServiceRequest, send
from ops.demo import output
from ops.demo.cases import START, USER, Case
from ops.demo.witness import Witness

TIMEOUT_S: Final = 90.0
"""Far longer than an order of the demo waits for its end, for slow machines."""


class Demo:
    """Places the orders of some cases on a new system, prints what happens, then stops its services.

    `wrong` has a sentence for each result that is not as expected; empty: all are.
    """

    def __init__(self, system: OwnSystem, cases: Sequence[Case]) -> None:
        self.wrong: list[str] = []
        self._system = system
        self._cases = cases
        self._placed: list[tuple[str, str]] = []
        """The id, empty if the answer had none, and the label of each order."""
        self._balances = [START]
        self._witness = Witness()

    async def run(self) -> None:
        """Run the demo to its end. Raises Unreachable, SettingsError: then its services may still run."""
        async with reading.stream(self._system.env) as stream:
            broker, events = stream.nc, stream.js
            for subject in (await events.stream_info(EVENTS)).config.subjects or ():
                await broker.subscribe(subject, cb=self._witness.take)
            await broker.flush()
            await self._open_shop()
            for number, case in enumerate(self._cases, 1):
                await self._place(number, case)
            print(output.table(self._balances))
            # A service that is stopped has published everything, so no more facts can come.
            for name, code in (await asyncio.to_thread(self._system.stop_services)).items():
                self._check(f"{name}_svc's exit code", code, 0)
            await broker.flush()
            for (order_id, label), case in zip(self._placed, self._cases, strict=True):
                steps, must_be = Counter(self._witness.steps(self._witness.about(order_id))), Counter(case.facts)
                self._check(f"{label}: facts (with their causes) that are not expected", list(steps - must_be), [])
                self._check(f"{label}: facts (with their causes) that are missing", list(must_be - steps), [])
            stored = (await events.stream_info(EVENTS)).state.messages
            self._check("facts in the stream", stored, len(self._witness.facts))

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
        print(f"{output.bold(f'{number}. {case.title}')}: {case.asks}")
        answer = await self._ask("POST", "order", "/orders", body, {"X-User-Id": USER})
        order_id = str(answer.body.get("order_id", ""))
        self._placed.append((order_id, label))
        facts = await self._witness.until(order_id, len(case.facts))
        for line in output.story(facts):
            print(line)
        print(f"   {output.verdict(answer)}\n")
        told = answer.body
        if case.refusal is None:
            got = {name: told.get(name) for name in case.amounts}
            self._check(f"{label}: answer", (answer.status, told.get("status")), (200, "CONFIRMED"))
            self._check(f"{label}: amounts", got, case.amounts)
        else:
            refused = (answer.status, told.get("type"), told.get("order_status"))
            self._check(f"{label}: answer", refused, (409, f"/problems/{case.refusal}", "CANCELED"))
            view = (await self._ask("GET", "order", f"/orders/{order_id}", headers={"X-User-Id": USER})).body
            self._check(f"{label}: compensated", view.get("compensated"), True)
        balances = await self._read_balances()
        self._check(f"{label}: balances afterwards", balances, {**self._balances[-1], **case.changes})
        self._balances.append(balances)

    async def _read_balances(self) -> Mapping[str, int | str]:
        async def read(service: str, path: str, name: str) -> Any:
            return (await self._ask("GET", service, path)).body.get(name)

        labels = dict(self._placed)
        users = [await read("coupon", f"/coupons/{coupon}", "order_id") for coupon in ("c1", "c2")]
        return {
            "mugs in stock": await read("product", "/products/mug", "available"),
            "lamps in stock": await read("product", "/products/lamp", "available"),
            f"points of {USER}": await read("point", f"/points/{USER}", "balance"),
            **{
                f"coupon {coupon}": "free" if user is None else labels.get(user, user)
                for coupon, user in zip(("c1", "c2"), users, strict=True)
            },
        }

    async def _ask(
        self, method: str, service: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> ServiceAnswer:
        request = ServiceRequest(ServiceAddress(service, self._system.url(service)), method, path, body, headers or {})
        return await asyncio.to_thread(send, request, TIMEOUT_S)

    def _created(self, answer: ServiceAnswer) -> None:
        self._check("opening the shop", (answer.status, answer.body.get("detail")), (201, None))

    def _check(self, what: str, found: object, must_be: object) -> None:
        if found != must_be:
            self.wrong.append(f"{what}: is {found}, must be {must_be}")
