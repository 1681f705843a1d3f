"""Kills order_svc and deletes the broker's store while clients place orders; then audits what is left."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx

from infra.broker.numbering import EVENTS
from infra.local.own_system import OwnSystem
from ops import reading
from ops.audit.report import AuditReport
from ops.audit.run import Options, audit
from ops.client import ServiceAddress, ServiceAnswer, ServiceRequest, ask_with
from ops.demo import output
from ops.demo.load import BALANCES, LAMPS, ORDERS, PATIENCE_S, RETRY_S, Clients


class CrashDemo:
    """Runs the load and the faults on a new system and prints what happens.

    `wrong` has a sentence for each result that is not as expected; empty: all are.
    """

    def __init__(self, system: OwnSystem) -> None:
        self.wrong: list[str] = []
        self._system = system
        self._began = time.monotonic()

    async def run(self) -> None:
        """Run the demo to its end. Raises Unreachable, StartFailed, SettingsError."""
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as http:
            await self._open_shop(http)
            clients = Clients(http, self._system.url("order"))
            self._began = time.monotonic()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(clients.place_all())
                    await self._break(clients)
            except ExceptionGroup as failed:
                raise _first(failed) from None
            await self._judge(http, clients)
        await self._audit()

    async def _open_shop(self, http: httpx.AsyncClient) -> None:
        async def post(service: str, path: str, body: object) -> None:
            await self._ask(http, "POST", service, path, body)

        for product_id, price, stock in (("mug", 12_000, 1_000), ("lamp", 30_000, LAMPS)):
            await post(
                "product", "/products", {"product_id": product_id, "name": product_id, "price": price, "stock": stock}
            )
        await post("point", "/points/u1/charge", {"amount": 100_000})
        coupon = {"coupon_id": "c1", "user_id": "u1", "discount": 3_000, "expires_at": "2099-12-31T00:00:00Z"}
        await post("coupon", "/coupons", coupon)

    async def _break(self, clients: Clients) -> None:
        """Kill order_svc after a third of the answers, and start it again; the same with the broker after two thirds.

        The broker's store is deleted before the broker is started again.
        """
        system = self._system
        await clients.answered(ORDERS // 3)
        self._tell(f"{ORDERS // 3} orders are answered: kill -9 order_svc", fault=True)
        await asyncio.to_thread(system.kill, "order")
        await asyncio.to_thread(system.start_again, "order")
        self._tell("order_svc is back; clients send again what was not answered")
        await clients.answered(2 * ORDERS // 3)
        messages = await self._messages()
        await asyncio.to_thread(system.kill, "nats")
        await asyncio.to_thread(system.delete_broker_store)
        told = f"{2 * ORDERS // 3} orders are answered: kill -9 nats-server, and its store is deleted"
        self._tell(f"{told}: {messages:,} messages", fault=True)
        await asyncio.to_thread(system.start_again, "nats")
        self._tell("nats-server is back, empty; the services write everything again")

    async def _messages(self) -> int:
        async with reading.stream(self._system.env) as stream:
            return int((await stream.js.stream_info(EVENTS)).state.messages)

    async def _judge(self, http: httpx.AsyncClient, clients: Clients) -> None:
        """Send each order's request once more, by its key; compare answers and balances with what they must be.

        Print the number of equal answers, and the balances; add a sentence to `wrong` for each difference.
        """
        self._tell(f"all {ORDERS} orders are answered; {clients.repeated:,} requests were sent again")
        self._check("different orders", len({answer.order_id for answer in clients.answers.values()}), ORDERS)
        changed = 0
        for number, answer in clients.answers.items():
            changed += await clients.ask(number) != answer
        self._check("orders with another answer when they are sent once more", changed, 0)
        self._tell(f"each order was sent once more: {ORDERS - changed} times the same answer")
        balances = await self._balances(http, clients)
        print(f"\n{output.bold(' ' * 20 + 'at first   must be        is')}")
        for name, (first, must_be) in BALANCES.items():
            print(f"{name:<18}{first:>10,}{must_be:>10,}{balances[name]:>10,}")
            self._check(name, balances[name], must_be)

    async def _balances(self, http: httpx.AsyncClient, clients: Clients) -> Mapping[str, int]:
        async def read(service: str, path: str, name: str) -> Any:
            return (await self._ask(http, "GET", service, path)).body.get(name)

        ended = Counter(answer.status for answer in clients.answers.values())
        return {
            "orders confirmed": ended[200],
            "orders canceled": ended[409],
            "mugs in stock": await read("product", "/products/mug", "available"),
            "lamps in stock": await read("product", "/products/lamp", "available"),
            "points of u1": await read("point", "/points/u1", "balance"),
            "coupons used": int(await read("coupon", "/coupons/c1", "order_id") is not None),
        }

    async def _ask(
        self, http: httpx.AsyncClient, method: str, service: str, path: str, body: object = None
    ) -> ServiceAnswer:
        """Send a request and return the answer, whose status is 200, 201 or 202. Raises Unreachable."""
        address, headers = ServiceAddress(service, self._system.url(service)), {"Idempotency-Key": "1"}
        return await ask_with(http, ServiceRequest(address, method, path, body, headers), timeout_s=PATIENCE_S)

    async def _audit(self) -> None:
        """Audit the system at rest, again and again while it has findings, until PATIENCE_S seconds have passed.

        Print the result; add each finding of the last audit to `wrong`. Compensations may still be on their way when
        the last order is answered, so the first audits may find something.
        """
        options = Options(
            self._system.folder / "audit", timedelta(0), at_rest=True, full=True, against=None, answers=200
        )
        until = time.monotonic() + PATIENCE_S
        made = await audit(self._system.env, options, _Silence())
        while not made.good and time.monotonic() < until:
            await asyncio.sleep(RETRY_S)
            made = await audit(self._system.env, options, _Silence())
        self.wrong += [f"audit: {finding.where} {finding.what}" for finding in made.findings]
        self._tell_audit(made)

    def _tell_audit(self, made: AuditReport) -> None:
        logs = f"{sum(log.records for log in made.logs.values()):,} facts in {len(made.logs)} logs"
        rest = f"{made.stream.messages:,} messages of the new stream and {made.answers.compared:,} answers"
        print(f"\n{output.bold('Audit')}: {logs}, compared with {rest}")
        if made.good:
            print(output.coloured("32", "=> good: nothing is lost, doubled or forged"))

    def _tell(self, text: str, *, fault: bool = False) -> None:
        line = f"{time.monotonic() - self._began:6.1f} s  {text}"
        print(output.coloured("31", line) if fault else line)

    def _check(self, what: str, found: object, must_be: object) -> None:
        if found != must_be:
            self.wrong.append(f"{what}: is {found}, must be {must_be}")


class _Silence:
    """A Watch that shows nothing."""

    def begins(self, what: str, items: int) -> None: ...

    def advances(self, items: int) -> None: ...


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception of a group that is not a group itself, at any depth."""
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
