"""`just roll` beside `just up`: every service restarted under load, nobody refused, no order failed."""

import asyncio
import contextlib
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest

from infra.auth.authorities import authorities
from infra.local.readiness import why_not_ready
from infra.local.services import service_names
from tests.e2e.processes import Started, run, running_in, started
from tests.e2e.test_up import READY, closed_shop, pids
from tests.metrics.test_prometheus import watching
from tests.ops.asking import orders
from tests.ops.boards import Board
from tests.shop import JSON, PATIENCE_S, Shop, attempts

__all__ = ["closed_shop"]  # a fixture

CUSTOMERS = 8
STOCK = 1_000_000


@contextlib.asynccontextmanager
async def opened(shop: Shop, folder: Path) -> AsyncIterator[Started]:
    """`just up`, ready."""
    with started("infra.local.up", env=shop.env, folder=folder) as up:
        await up.prints(READY)
        yield up


def restarted(up: Started, names: Collection[str] = service_names()) -> dict[str, int]:
    """How often each of these has told that it started."""
    started = re.findall(r"^(\w+) +\| .* started ", up.output, re.MULTILINE)
    return Counter(name for name in started if name in names)


class Load:
    """Customers who order one thing after the other, each on a connection of his own that he keeps, until `closing`.

    A 503 that names a time is repeated after it, with the same key. Nothing else is forgiven.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.closing = asyncio.Event()
        self.orders: dict[str, str] = {}
        """Order id → its customer."""
        self.answers: Counter[int] = Counter()
        self.connections: list[int] = []
        """For each connection of the watcher, how many events came by it."""

    async def customer(self, user: str) -> None:
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, verify=authorities({})) as http:
            number = 0
            while not self.closing.is_set():
                number += 1
                await self._order(http, user, f"{user}-{number}")

    async def _order(self, http: httpx.AsyncClient, user: str, key: str) -> None:
        body = b'{"lines":[{"product_id":"mug","quantity":1}],"points":1,"coupon_id":null}'
        while True:
            headers = JSON | {"X-User-Id": user, "Idempotency-Key": key}
            answer = await http.post(self._shop.url("order", "/orders"), content=body, headers=headers)
            self.answers[answer.status_code] += 1
            if answer.status_code != 503:
                assert answer.status_code in (200, 202), answer.text
                self.orders[answer.json()["order_id"]] = user
                return
            assert answer.json()["detail"].startswith("no new order can be accepted (")  # it ends, or has just begun
            await asyncio.sleep(float(answer.headers["Retry-After"]))

    async def visitor(self, service: str, path: str) -> None:
        """Asks again and again: on a kept connection, and on a new one each time."""
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, verify=authorities({})) as kept:
            while not self.closing.is_set():
                assert (await kept.get(self._shop.url(service, path))).status_code == 200
                async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, verify=authorities({})) as new:
                    assert (await new.get(self._shop.url(service, path))).status_code == 200

    async def watcher(self) -> None:
        """Has the dashboard's first page open: is sent what is new, and asks again as soon as a connection ends."""
        board = Board(self._shop, self._shop.env["DASHBOARD_PORT"])
        last: int | None = None
        while not self.closing.is_set():
            self.connections.append(0)
            async with aclosing(board.events("/live", last)) as events:
                async for number, _, html in events:
                    last = number
                    assert "Needs attention" in html
                    self.connections[-1] += 1
                    if self.closing.is_set():
                        break


async def test_a_roll_under_load_refuses_nobody_and_fails_no_order(closed_shop: Shop, tmp_path: Path) -> None:
    shop = closed_shop
    async with opened(shop, tmp_path) as up:
        await shop.register("mug", stock=STOCK)
        users = [f"u{number}" for number in range(CUSTOMERS)]
        for user in users:
            await shop.charge(user, STOCK)
        load = Load(shop)
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(load.customer(user))
            for service, path in (("product", "/products/mug"), ("point", "/points/u0"), ("coupon", "/healthz")):
                group.create_task(load.visitor(service, path))
            group.create_task(load.watcher())
            async for _ in attempts("orders before the roll, and the dashboard's numbers"):
                if len(load.orders) > CUSTOMERS and any(load.connections):
                    break
            rolled = await run("infra.local.roll", env=shop.env)
            before = len(load.orders)
            async for _ in attempts("orders after the roll, and the dashboard's numbers"):
                if len(load.orders) > before + CUSTOMERS and load.connections[1:] and load.connections[-1]:
                    break
            load.closing.set()

        assert (rolled.returncode, rolled.stderr) == (0, ""), up.output
        assert restarted(up, {*service_names(), "dashboard"}) == dict.fromkeys((*service_names(), "dashboard"), 2)
        assert set(load.answers) <= {200, 202, 503}
        for order_id, user in load.orders.items():
            assert (await shop.until_ended(order_id, user))["status"] == "CONFIRMED"
        await shop.until_quiet()
        audited = await orders(shop, "audit", "--at-rest")
        assert audited.returncode == 0, audited.stdout
        assert await shop.available("mug") == STOCK - len(load.orders)


async def test_a_roll_under_load_fires_no_alert(closed_shop: Shop, tmp_path: Path) -> None:
    """By the rules of docs/monitoring, in a Prometheus that scrapes and evaluates as often as the example's."""
    shop = closed_shop
    (tmp_path / "prometheus").mkdir()
    async with opened(shop, tmp_path), watching(shop, tmp_path / "prometheus", "5s") as prometheus:
        await shop.register("mug", stock=STOCK)
        await shop.charge("u1", STOCK)
        load = Load(shop)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.customer("u1"))
            async for _ in attempts("all services to be scraped"):
                if await prometheus.query('up{job="saga"}') == {f"{name}_svc": 1 for name in service_names()}:
                    break
            assert (await run("infra.local.roll", env=shop.env)).returncode == 0
            async for _ in attempts("each service to be scraped again"):
                if await prometheus.query('min_over_time(up{job="saga"}[11s]) == 1') == {
                    f"{name}_svc": 1 for name in service_names()
                }:
                    break
            load.closing.set()

        fired = 'max_over_time(ALERTS{alertstate="firing", alertname!="Watchdog"}[10m])'
        assert await prometheus.query(fired) == {}
        assert await prometheus.query('max_over_time(ALERTS{alertname="Watchdog"}[10m])')


async def test_one_that_does_not_come_back_ends_the_roll_and_the_next_one_begins_with_it(
    closed_shop: Shop, tmp_path: Path
) -> None:
    shop, identity = closed_shop, tmp_path / "point.identity"
    async with opened(shop, tmp_path) as up:
        coupon, right = pids(up)["coupon"], identity.read_text()
        identity.write_text("0" * len(right.strip()))

        rolled = await run("infra.local.roll", env=shop.env)

        assert rolled.returncode == 1
        assert "point_svc did not come back: it ended with exit code 2 while it was starting" in rolled.stderr
        assert rolled.stderr.rstrip().endswith("Not restarted: coupon_svc")
        assert restarted(up) == {"order": 2, "product": 2, "point": 1, "coupon": 1}
        os.kill(coupon, 0)
        with pytest.raises(httpx.ConnectError):  # nobody waits at a socket behind which nothing runs
            await shop.get("point", "/readyz")

        identity.write_text(right)
        rolled = await run("infra.local.roll", env=shop.env)

        assert (rolled.returncode, rolled.stdout.splitlines()[0]) == (0, "point_svc: it does not run, starting")
        assert restarted(up) == {"order": 3, "product": 3, "point": 2, "coupon": 2}
        for name in service_names():
            assert (await shop.get(name, "/readyz")).status_code == 200


async def test_one_that_was_started_by_hand_is_named_and_one_that_is_dead_is_started(
    closed_shop: Shop, tmp_path: Path
) -> None:
    shop = closed_shop
    async with opened(shop, tmp_path) as up:
        before = pids(up)
        for name in ("product", "coupon"):
            os.kill(before[name], signal.SIGKILL)
            await up.prints(f"{name} was killed by SIGKILL. ")
        (tmp_path / "by-hand").mkdir()
        with started("product_svc", env=shop.env, folder=tmp_path / "by-hand") as by_hand:
            async for _ in attempts("product_svc to be ready"):
                if await asyncio.to_thread(why_not_ready, shop.url("product", "")) is None:
                    break

            rolled = await run("infra.local.roll", env=shop.env)

            pid = by_hand.process.pid
            assert rolled.returncode == 1
            assert rolled.stdout.splitlines()[0] == (
                f"product_svc: left as it is; process {pid} runs product_svc, which was started by hand: "
                f"`kill -TERM {pid}`"
            )
            assert rolled.stderr.startswith("all others are restarted, and product_svc not: ")
            assert restarted(up) == {"order": 2, "product": 1, "point": 2, "coupon": 2}

            os.kill(pid, signal.SIGTERM)
            assert await by_hand.ended() == 0

        rolled = await run("infra.local.roll", env=shop.env)

        assert (rolled.returncode, rolled.stdout.splitlines()[0]) == (0, "product_svc: it does not run, starting")


async def test_only_one_roll_at_a_time_and_only_while_all_others_are_ready(closed_shop: Shop, tmp_path: Path) -> None:
    shop = closed_shop
    async with opened(shop, tmp_path) as up:
        processes = pids(up)
        os.kill(processes["order"], signal.SIGSTOP)
        os.kill(processes["point"], signal.SIGSTOP)
        refused = await run("infra.local.roll", env=shop.env)
        os.kill(processes["point"], signal.SIGCONT)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "point_svc is not ready: it does not answer" in refused.stderr

        (tmp_path / "first").mkdir()
        with started("infra.local.roll", env=shop.env, folder=tmp_path / "first") as first:
            await first.prints("order_svc: restarting")
            second = await run("infra.local.roll", env=shop.env)
            os.kill(processes["order"], signal.SIGCONT)
            assert await first.ended() == 0, first.output
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr == "another roll is going on: this one restarted nothing\n"
        assert restarted(up) == dict.fromkeys(service_names(), 2)


async def test_a_service_that_does_not_end_is_killed(closed_shop: Shop, tmp_path: Path) -> None:
    shop = closed_shop
    async with opened(shop, tmp_path) as up:
        os.kill(pids(up)["order"], signal.SIGSTOP)

        rolled = await run("infra.local.roll", env=shop.env)

        assert rolled.returncode == 0, rolled.stderr
        assert "order was killed by SIGKILL" in up.output
        assert restarted(up) == dict.fromkeys(service_names(), 2)


async def test_ctrl_c_ends_it_after_the_service_that_is_being_restarted(closed_shop: Shop, tmp_path: Path) -> None:
    shop = closed_shop
    async with opened(shop, tmp_path) as up:
        (tmp_path / "roll").mkdir()
        with started("infra.local.roll", env=shop.env, folder=tmp_path / "roll") as rolling:
            await rolling.prints("order_svc: restarting")
            rolling.process.send_signal(signal.SIGINT)
            assert await rolling.ended() == 130
        await up.prints("nobody waits for it any more; not restarted: product_svc, point_svc, coupon_svc")
        assert restarted(up) == {"order": 2, "product": 1, "point": 1, "coupon": 1}


async def test_without_just_up_it_says_so(tmp_path: Path, closed_shop: Shop) -> None:
    rolled = await run("infra.local.roll", env=closed_shop.env)

    assert (rolled.returncode, rolled.stdout) == (3, "")
    assert rolled.stderr == f"`just up` is not running with the data in {tmp_path}; start it with `just up`\n"


async def test_its_children_go_with_it_also_those_of_a_roll(closed_shop: Shop, tmp_path: Path) -> None:
    """The guard of `just up` knows the new processes."""
    shop = closed_shop
    async with opened(shop, tmp_path) as up:
        assert (await run("infra.local.roll", env=shop.env)).returncode == 0
        up.process.kill()
        async for _ in attempts("everything to end"):
            if running_in(tmp_path) == {}:
                break
