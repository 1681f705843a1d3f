"""A real Prometheus scrapes a real shop by the files of docs/monitoring; a service is killed, and the alert sees it."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.ports import free_ports
from tests.metrics.queries import MONITORING
from tests.shop import PATIENCE_S, Shop, attempts

PORTS = {"8001": "ORDER_PORT", "8002": "PRODUCT_PORT", "8003": "POINT_PORT", "8004": "COUPON_PORT"}


class Prometheus:
    def __init__(self, port: int, http: httpx.AsyncClient) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query"
        self._http = http

    async def query(self, query: str) -> dict[str, float]:
        """The value of each series, by its service; nothing while it does not answer."""
        with contextlib.suppress(httpx.TransportError):
            answer = await self._http.get(self._url, params={"query": query})
            if answer.status_code != 200:  # it is starting
                return {}
            found: list[dict[str, Any]] = answer.json()["data"]["result"]
            return {one["metric"].get("service", ""): float(one["value"][1]) for one in found}
        return {}


@contextlib.asynccontextmanager
async def watching(shop: Shop, folder: Path, every: str = "1s") -> AsyncIterator[Prometheus]:
    """A Prometheus of the test's own, with the example's configuration and the shop's ports.

    It scrapes and evaluates `every` so often; the example does so every 5 s.
    """
    if shutil.which("prometheus") is None and not os.environ.get("TEST_ALL"):
        pytest.skip("prometheus is missing: it is in Debian's package of that name")
    for name in ("prometheus.yml", "recording.yml", "alerts.yml"):
        text = (MONITORING / name).read_text(encoding="utf-8")
        if name == "prometheus.yml":
            text = re.sub(r"800[1-4]", lambda port: shop.env[PORTS[port[0]]], text).replace(": 5s", f": {every}")
            text = text.replace('"127.0.0.1:9093"', "")  # alerts go nowhere
        (folder / name).write_text(text)
    (port,) = free_ports(1)
    command = (
        *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"),
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (folder / "log").open("wb") as log:
        process = await asyncio.to_thread(subprocess.Popen, command, cwd=folder, stdout=log, stderr=log)
    try:
        yield Prometheus(port, shop.http)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, PATIENCE_S)


async def test_a_killed_service_is_down_for_prometheus_and_back_afterwards(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    async with watching(shop, folder) as prometheus:
        async for _ in attempts("all services to be scraped", PATIENCE_S):
            if await prometheus.query('up{job="saga"}') == {f"{name}_svc": 1 for name in shop.services}:
                break
        await shop.register("mug", 1_000, 10)
        for n in range(3):
            assert (await shop.place([("mug", 1)], key=str(n))).status_code == 200
        async for _ in attempts("the orders to be counted", PATIENCE_S):
            if (await prometheus.query("saga_orders_accepted_total")).get("order_svc") == 3:
                break

        await shop.kill("point")

        pending = 'ALERTS{alertname="SagaTargetDown"}'
        async for _ in attempts("the alert to see it", PATIENCE_S):
            if await prometheus.query(pending) == {"point_svc": 1}:
                break
        await shop.start("point")
        up = 'up{service="point_svc"}'
        async for _ in attempts("the alert to end", PATIENCE_S):
            if await prometheus.query(up) == {"point_svc": 1} and not await prometheus.query(pending):
                break
