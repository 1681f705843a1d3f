"""A shop for tests: a real nats-server and the real services as processes, on free ports, in a temporary folder."""

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import APIError

from contracts.wire import FACTS, MSG_ID, POSITION
from infra.broker.client import BrokerClient
from infra.broker.generations import generation_numbers
from infra.broker.numbering import stream_name
from infra.local.nats import start_nats
from infra.local.processes import start_service, stop_process
from infra.local.readiness import wait_ready
from infra.local.services import ROOT, free_environment, own_service_url, service_names
from ops.invariants import LogEntry, Message
from tests.forked import Forked

JSON = {"Content-Type": "application/json"}

PATIENCE_S = 30.0
"""Maximum number of seconds for a condition to become true. A test never waits for a fixed time."""


class Event(NamedTuple):
    """One message of the stream EVENTS."""

    sequence: int
    subject: str
    fact_id: str
    position: int
    raw: bytes
    body: dict[str, Any]

    @property
    def fact(self) -> str:
        return str(self.body["type"])


async def consumers_of(js: JetStreamContext, listener: str) -> list[ConsumerInfo]:
    """The consumers of a service or a read model, such as `point` or `product-popular`, on all generations."""
    found = [info for stream in await generations(js) for info in await js.consumers_info(stream)]
    return [info for info in found if str(info.name).startswith(f"{listener}-hears-")]


async def generations(js: JetStreamContext) -> list[str]:
    """The names of the generations of the stream, the oldest first."""
    assert isinstance(js._nc, BrokerClient)
    return [stream_name(number) for number in await generation_numbers(js._nc)]


class Shop:
    """The system under test. `env` may be changed before a process is (re)started.

    `root` is the checkout whose services it runs. Services of another checkout are started from nothing, because the
    process that tests fork from has imported the code of this one.
    """

    def __init__(self, folder: Path, root: Path = ROOT, **settings: str) -> None:
        self.folder = folder
        self.root = root
        self.services = service_names(root)
        self.env = {**free_environment(folder, root), "LOG_FORMAT": "text", **settings}
        self.processes: dict[str, subprocess.Popen[bytes] | Forked] = {}
        self.http = httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, limits=httpx.Limits(max_connections=256))

    # Processes --------------------------------------------------------------------------------------------------------

    async def start_nats(self) -> None:
        with self.log("nats").open("ab") as output:
            self.processes["nats"] = await asyncio.to_thread(start_nats, self.env, output)

    async def start(self, *services: str, wrapper: str | None = None, ready: bool = True) -> None:
        """Start these services (all, if none is named); `wrapper`: a module of tests.wrappers to run instead."""
        names = services or self.services
        for name in names:
            self.processes[name] = self.launch(name, f"{name}_svc" if wrapper is None else f"tests.wrappers.{wrapper}")
        if ready:
            await self.ready(*names)

    def launch(self, name: str, module: str) -> subprocess.Popen[bytes] | Forked:
        """Start the process of a service, or of a module in its place; does not wait until it is ready."""
        if self.root != ROOT:
            with self.log(name).open("ab") as output:
                return start_service(name, self.env, output, self.root)
        return Forked(module, env={**self.env, "WRAPPED": name}, stdout=self.log(name))

    async def ready(self, *services: str) -> None:
        await asyncio.gather(
            *(asyncio.to_thread(wait_ready, name, self.env, self.processes[name]) for name in services or self.services)
        )

    async def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal a process and wait for it. Returns its exit code."""
        return await asyncio.to_thread(stop_process, self.processes[name], how)

    async def kill(self, name: str) -> None:
        await self.stop(name, signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def paused(self, name: str) -> AsyncIterator[None]:
        """A process that does nothing inside the block, and has not ended. Linux and macOS."""
        process = self.processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            async for _ in attempts(f"{name} to stop"):  # a thread may be at work for a moment after the signal
                if stopped(process.pid):
                    break
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)

    async def ended(self, name: str) -> int:
        """Wait for a process that ends by itself. Returns its exit code."""
        return await asyncio.to_thread(self.processes[name].wait, PATIENCE_S)

    def lose_stream(self) -> None:
        """Delete the broker's store; it must not be running."""
        shutil.rmtree(self.folder / "nats")

    async def close(self) -> None:
        await self.http.aclose()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    # HTTP -------------------------------------------------------------------------------------------------------------

    def url(self, service: str, path: str) -> str:
        return own_service_url(service, self.env) + path

    async def post(
        self, service: str, path: str, body: object = None, *, user: str | None = None, key: str | None = None
    ) -> httpx.Response:
        headers = {name: value for name, value in (("X-User-Id", user), ("Idempotency-Key", key)) if value is not None}
        return await self.http.post(
            self.url(service, path),
            content=b"" if body is None else msgspec.json.encode(body),
            headers=JSON | headers,
        )

    async def get(self, service: str, path: str, *, user: str | None = None) -> httpx.Response:
        return await self.http.get(self.url(service, path), headers={"X-User-Id": user} if user else {})

    async def register(self, product_id: str, price: int = 1_000, stock: int = 100) -> None:
        body = {"product_id": product_id, "name": f"Product {product_id}", "price": price, "stock": stock}
        (await self.post("product", "/products", body)).raise_for_status()

    async def charge(self, user_id: str, amount: int, key: str = "first") -> None:
        (await self.post("point", f"/points/{user_id}/charge", {"amount": amount}, key=key)).raise_for_status()

    async def issue(
        self, coupon_id: str, user_id: str, discount: int = 300, expires_at: str = "2099-01-01T00:00:00Z"
    ) -> None:
        body = {"coupon_id": coupon_id, "user_id": user_id, "discount": discount, "expires_at": expires_at}
        (await self.post("coupon", "/coupons", body)).raise_for_status()

    async def place(
        self,
        lines: Sequence[tuple[str, int]],
        *,
        user: str = "u1",
        points: int = 0,
        coupon: str | None = None,
        key: str | None = None,
    ) -> httpx.Response:
        """POST /orders; `lines` are (product_id, quantity)."""
        body = {
            "lines": [{"product_id": product_id, "quantity": quantity} for product_id, quantity in lines],
            "points": points,
            "coupon_id": coupon,
        }
        return await self.post("order", "/orders", body, user=user, key=key)

    async def order(self, order_id: str, user: str = "u1") -> dict[str, Any]:
        answer = await self.get("order", f"/orders/{order_id}", user=user)
        answer.raise_for_status()
        return dict(answer.json())

    async def until_ended(self, order_id: str, user: str = "u1") -> dict[str, Any]:
        """The order's view once it is confirmed, or canceled and compensated."""
        async for _ in attempts(f"order {order_id} to end"):
            with contextlib.suppress(httpx.TransportError):
                view = await self.order(order_id, user)
                if view["status"] == "CONFIRMED" or view["compensated"]:
                    return view
        raise AssertionError

    async def available(self, product_id: str) -> int:
        return int((await self.get("product", f"/products/{product_id}")).json()["available"])

    async def balance(self, user_id: str) -> int:
        return int((await self.get("point", f"/points/{user_id}")).json()["balance"])

    async def coupon_used_by(self, coupon_id: str) -> str | None:
        order_id = (await self.get("coupon", f"/coupons/{coupon_id}")).json()["order_id"]
        return None if order_id is None else str(order_id)

    # Broker -----------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def broker(self) -> AsyncIterator[BrokerClient]:
        client = BrokerClient()
        await client.connect(f"nats://127.0.0.1:{self.env['NATS_PORT']}", allow_reconnect=False)
        try:
            yield client
        finally:
            await client.close()

    async def events(self) -> list[Event]:
        """All messages of the stream, in the order of its generations."""
        async with self.broker() as client:
            js = client.jetstream()
            return [event for stream in await generations(js) for event in await self._events(js, stream)]

    async def _events(self, js: JetStreamContext, stream: str) -> list[Event]:
        state = (await js.stream_info(stream)).state
        last = state.last_seq
        if state.messages == 0:
            return []
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, mem_storage=True, inactive_threshold=30
        )
        consumer = await js.add_consumer(stream, config)
        subscription = await js.pull_subscribe_bind(consumer.name, stream)
        found: list[Event] = []
        while not found or found[-1].sequence < last:
            for message in await subscription.fetch(1_000, timeout=PATIENCE_S):
                headers = message.headers or {}
                found.append(
                    Event(
                        message.metadata.sequence.stream,
                        message.subject,
                        headers.get(MSG_ID, ""),
                        int(headers.get(POSITION, "0")),
                        message.data,
                        msgspec.json.decode(message.data),
                    )
                )
        await js.delete_consumer(stream, consumer.name)
        return found

    async def facts(self, order_id: str, *, ledgers: bool = False) -> list[str]:
        """The names of one order's facts in stream order, its stock ledger included, repeats left out.

        `ledgers`: with what it moved in its customer's account and its coupon.
        """
        seen: dict[str, str] = {}
        for event in await self.events():
            implied = event.fact in FACTS and FACTS[event.fact].implied
            if event.body.get("order_id") == order_id and (ledgers or not implied):
                seen.setdefault(event.fact_id, event.fact)
        return list(seen.values())

    async def copies(self) -> tuple[dict[str, list[LogEntry]], list[Message]]:
        """Both copies of history: each service's log, and the stream."""
        logs = {name: log_of(self.folder, name) for name in self.services}
        return logs, [Message(event.sequence, event.fact_id, event.raw) for event in await self.events()]

    async def until_quiet(self, patience_s: float = PATIENCE_S) -> None:
        """Returns when the stream has every log and every consumer has acknowledged all its messages."""
        async for _ in attempts("quiet", patience_s):
            with contextlib.suppress(httpx.TransportError, NatsError, APIError, OSError):
                before = await self._activity()
                if before is not None and before == await self._activity():
                    return

    async def _activity(self) -> tuple[int, ...] | None:
        """Numbers that change while anything is going on; None while something certainly is."""
        for name in self.services:
            if (await self.get(name, "/readyz")).status_code != 200:
                return None
        async with self.broker() as client:
            js = client.jetstream()
            consumers = [info for name in self.services for info in await consumers_of(js, name)]
            if any(consumer.num_pending or consumer.num_ack_pending for consumer in consumers):
                return None
            return (
                *[(await js.stream_info(stream)).state.last_seq for stream in await generations(js)],
                *(logged(self.folder, n) for n in self.services),
            )


def stopped(pid: int) -> bool:
    """Whether all threads of a process are stopped; True where there is no /proc to ask."""
    return all(
        state.read_text().rpartition(")")[2].split()[0] == "T" for state in Path(f"/proc/{pid}/task").glob("*/stat")
    )


def logged(folder: Path, service: str) -> int:
    """How many records a service's log has."""
    with contextlib.closing(sqlite3.connect(folder / service / "events.sqlite")) as connection:
        return int(connection.execute("SELECT count(*) FROM stored_events").fetchone()[0])


def log_of(folder: Path, service: str) -> list[LogEntry]:
    """A service's log, read from its file."""
    with contextlib.closing(sqlite3.connect(folder / service / "events.sqlite")) as connection:
        rows = connection.execute(
            "SELECT rowid, originator_id, originator_version, state FROM stored_events ORDER BY rowid"
        )
        return [LogEntry(*row) for row in rows]


async def attempts(what: str, patience_s: float = PATIENCE_S) -> AsyncIterator[None]:
    """Attempts at a condition, paced, until the patience ends."""
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_s
    while loop.time() < until:
        yield
        await asyncio.sleep(0.02)
    raise AssertionError(f"waited {patience_s} s for {what}")


@contextlib.asynccontextmanager
async def open_shop(folder: Path, root: Path = ROOT, **settings: str) -> AsyncIterator[Shop]:
    """A shop with its broker and all services ready."""
    shop = Shop(folder, root, **settings)
    try:
        await shop.start_nats()
        await shop.start()
        yield shop
    finally:
        await shop.close()


@contextlib.asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do `work` beside the body. Leaves when both are done, fails when either does."""
    async with asyncio.TaskGroup() as group:
        group.create_task(work)
        yield
