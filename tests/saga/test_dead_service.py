"""A service that does not answer is named: to the client, in /readyz, in the log. Overload is still called overload."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.broker.client import BrokerClient
from infra.broker.stored import StoredMessage
from order_svc import progress
from order_svc.admission import ALWAYS_ADMITTED, OVERLOADED, AdmissionControl
from order_svc.progress import Progress
from order_svc.waits import PublishedAt
from tests.shop import Shop, attempts, logged, open_shop

NOW = datetime(2026, 3, 2, tzinfo=UTC)
SILENT = re.compile(r"point_svc has not answered since \d\d:\d\d:\d\d UTC; (\d+) orders? waits? for it")


async def warnings(shop: Shop) -> str:
    answer = await shop.get("order", "/readyz")
    assert answer.status_code == 200
    return "\n".join(answer.json()["warnings"])


def lines(shop: Shop, event: str) -> list[str]:
    return [line for line in shop.log("order").read_text().splitlines() if event in line]


@pytest.mark.parametrize("how", ["killed", "consumer paused"])
async def test_a_service_that_does_not_answer_is_named_to_clients_and_operators(tmp_path: Path, how: str) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.1", ORDER_DEADLINE_S="600", ORDERS_IN_FLIGHT="200") as shop:
        await shop.register("mug", stock=10_000)
        assert (await shop.place([("mug", 1)], key="before")).status_code == 200
        if how == "killed":
            await shop.kill("point")
        else:  # ready, and yet it hears nothing
            async with shop.broker() as client:
                pause = b'{"pause_until":"2099-01-01T00:00:00Z"}'
                await client.request("$JS.API.CONSUMER.PAUSE.EVENTS.point-hears-product-reserved", pause, timeout=5)
        placed = await asyncio.gather(*(shop.place([("mug", 1)], key=f"k{n}") for n in range(ALWAYS_ADMITTED + 1)))
        assert {answer.status_code for answer in placed} == {202}

        async for _ in attempts("the service to be named"):
            found = SILENT.search(await warnings(shop))
            if found and int(found[1]) == len(placed):
                break
        before = logged(shop.folder, "order")
        async for _ in attempts("an order to be refused"):
            refused = await shop.place([("mug", 1)], key="late")
            if refused.status_code == 503:
                break

        found = SILENT.match(refused.json()["detail"])
        assert found
        assert refused.json()["detail"].endswith("; retry after the given delay")
        async for _ in attempts("the line that says why"):
            if lines(shop, "admission refuses new orders"):
                break
        [line] = lines(shop, "admission refuses new orders")
        assert SILENT.search(line)
        again = await shop.place([("mug", 1)], key="before")
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
        assert logged(shop.folder, "order") >= before

        if how == "killed":
            await shop.start("point")
        else:
            async with shop.broker() as client:
                await client.request("$JS.API.CONSUMER.PAUSE.EVENTS.point-hears-product-reserved", b"{}", timeout=5)
        async for _ in attempts("admission to be open again"):
            if lines(shop, "admission admits new orders again"):
                break
        assert "has not answered" not in await warnings(shop)
        assert len(lines(shop, "admission refuses new orders")) == 1
        assert (await shop.place([("mug", 1)], key="late")).status_code == 200
        await shop.until_quiet()


async def test_an_order_that_has_ended_gets_its_answer_again_while_new_ones_are_refused(tmp_path: Path) -> None:
    async with open_shop(tmp_path, ORDER_WAIT_S="0.1", ORDER_DEADLINE_S="600", ORDERS_IN_FLIGHT="1") as shop:
        await shop.register("mug", stock=1)
        done = await shop.place([("mug", 1)], key="done")
        sold_out = await shop.place([("mug", 1)], key="sold-out")
        await shop.kill("product")
        assert (await shop.place([("mug", 1)], key="waits")).status_code == 202
        before = logged(shop.folder, "order")

        again = [await shop.place([("mug", 1)], key=key) for key in ("done", "sold-out", "waits")]
        other = await shop.place([("mug", 2)], key="done")
        new = [await shop.place([("mug", 1)], key=key) for key in ("new", None)]

        assert [answer.status_code for answer in again] == [200, 409, 202]
        assert (again[0].json(), again[1].json()) == (done.json(), sold_out.json())
        assert other.status_code == 422
        assert [answer.status_code for answer in new] == [503, 503]
        assert ": 2 refused, 1 in flight" in await warnings(shop)
        assert logged(shop.folder, "order") == before
        await shop.start("product")
        await shop.until_quiet()


A_BROKER = SimpleNamespace(connection=object(), supervisor=SimpleNamespace(streams=["EVENTS_1", "EVENTS"]))


@pytest.mark.parametrize("body", [b"", b'{"at":"\xff"}', b'{"at":"2026-03-02T00:00:00"}', b'{"x":' + b"[" * 100_000])
async def test_a_message_of_another_publisher_is_no_answer(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    said = [
        StoredMessage(1, "order.created.pending.o1", b'{"at":"2026-03-02T00:00:00Z"}', b"", 0),
        StoredMessage(2, "point.used.o1", body, b"", 0),
    ]

    async def latest(*_: object) -> list[StoredMessage]:
        return said

    monkeypatch.setattr(progress, "latest_messages", latest)
    runtime: Any = SimpleNamespace(broker=A_BROKER, clock=lambda: NOW, on_recorded=[], warnings=[], tasks=[])
    found = await Progress(runtime, AdmissionControl(1, soon_s=1))._ask(cast(BrokerClient, None), ["o1"])

    assert found == {"o1": {"order.created.pending": PublishedAt(1, NOW)}}


async def test_a_service_that_died_after_a_late_answer_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest orders reached it before its last answer, and were not answered; later ones reached it after that."""
    order_ids = [f"o{n:03}" for n in range(progress.OLDEST + 136)]
    at = {
        order_id: (NOW - timedelta(seconds=60 - n / 10), 2 * n + 1) for n, order_id in enumerate((*order_ids, "ended"))
    }
    after_the_oldest = at[order_ids[progress.OLDEST]][1] + 1

    async def latest(_: object, subjects: Sequence[str], streams: Sequence[str]) -> list[StoredMessage]:
        assert streams == A_BROKER.supervisor.streams
        created = [
            StoredMessage(at[order_id][1], subject, b'{"at":"%s"}' % at[order_id][0].isoformat().encode(), b"", 0)
            for subject in subjects
            if subject.startswith("order.created.pending.") and (order_id := subject.rpartition(".")[2]) in at
        ]
        answer = StoredMessage(after_the_oldest, "product.reserved.ended", b'{"at":"2026-03-02T00:00:00Z"}', b"", 0)
        return [*created, *([answer] if answer.subject in subjects else [])]

    monkeypatch.setattr(progress, "latest_messages", latest)
    runtime: Any = SimpleNamespace(broker=A_BROKER, clock=lambda: NOW, on_recorded=[], warnings=[], tasks=[])
    watched = Progress(runtime, AdmissionControl(1, soon_s=1))
    watched._in_flight = {order_id: at[order_id][0] for order_id in order_ids}
    watched._ended.append("ended")

    await watched.look()

    [sentence] = watched.unanswered()
    assert sentence.startswith("product_svc has not answered since")
    assert sentence.endswith(f"; {len(order_ids)} orders wait for it")


async def test_overload_of_services_that_answer_is_called_overload() -> None:
    runtime: Any = SimpleNamespace(
        broker=SimpleNamespace(connection=None), clock=lambda: NOW, on_recorded=[], warnings=[], tasks=[]
    )
    waiting = Progress(runtime, AdmissionControl(1, soon_s=1))

    assert waiting.refused(OVERLOADED) == f"{OVERLOADED}; retry after the given delay"
    await waiting.look()
    assert waiting.refused(OVERLOADED) == f"{OVERLOADED}; retry after the given delay"
    assert waiting.warnings() == [f"new orders are refused since 00:00:00 UTC ({OVERLOADED}): 2 refused, 0 in flight"]
