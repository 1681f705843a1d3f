"""A service as a process: how it starts, why it does not, how it ends."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from infra.local.ports import free_ports
from infra.local.readiness import UNREACHABLE, why_not_ready
from infra.local.services import free_environment, own_service_url, service_names
from tests.e2e.processes import run, started
from tests.shop import Shop, attempts


async def answers(url: str) -> None:
    """Returns when a service listens there, ready or not."""
    async for _ in attempts(f"{url} to answer"):
        if await asyncio.to_thread(why_not_ready, url) != UNREACHABLE:
            return


@pytest.mark.parametrize("service", service_names())
async def test_a_taken_port_is_said(tmp_path: Path, service: str) -> None:
    env = free_environment(tmp_path)
    port = env[f"{service}_PORT".upper()]
    with socket.create_server(("127.0.0.1", int(port))):
        ended = await run(f"{service}_svc", env=env)
    assert ended.returncode == 2
    assert (
        ended.stderr == f"{service}_svc cannot start: port {port} on 127.0.0.1 cannot be used: Address already in use\n"
    )


async def test_two_services_started_at_once_on_one_port_do_not_share_it(tmp_path: Path) -> None:
    env = free_environment(tmp_path)
    env["PRODUCT_PORT"] = env["POINT_PORT"]
    with (
        started("product_svc", env=env, folder=tmp_path) as product,
        started("point_svc", env=env, folder=tmp_path) as point,
    ):
        first = asyncio.FIRST_COMPLETED
        done, _ = await asyncio.wait([asyncio.create_task(it.ended()) for it in (product, point)], return_when=first)
        assert [task.result() for task in done] == [2]
        refused, serving = (product, point) if product.process.poll() is not None else (point, product)
        assert "Address already in use" in refused.output
        await answers(own_service_url("point", env))
        assert serving.process.poll() is None
        serving.process.terminate()
        assert await serving.ended() == 0


async def test_a_second_process_on_one_store_is_refused_before_it_hears_anything(tmp_path: Path) -> None:
    env = free_environment(tmp_path)
    (other_port,) = free_ports(1)
    with started("point_svc", env=env, folder=tmp_path) as first:
        await answers(own_service_url("point", env))
        second = await run("point_svc", env=env | {"POINT_PORT": str(other_port)})
        assert second.returncode == 2
        assert second.stderr == (
            f"point_svc cannot start: another process of this service (process {first.process.pid}) works on "
            f"{tmp_path / 'point'}; stop it first\n"
        )
        assert first.process.poll() is None


@pytest.mark.parametrize(
    ("service", "setting", "value", "said"),
    [
        ("order", "BIND_HOST", "0.0.0.0", "callers are not authenticated in this mode"),
        ("order", "ORDER_WAIT_S", "soon", "ORDER_WAIT_S='soon' cannot be used"),
        ("order", "ORDER_DEADLINE_S", "-1", "ORDER_DEADLINE_S='-1' cannot be used"),
        ("order", "ORDERS_UNDER_WAY", "64", "ORDERS_UNDER_WAY is called ORDERS_IN_FLIGHT now"),
        ("product", "PRODUCT_PORT", "70000", "PRODUCT_PORT='70000' cannot be used"),
        ("point", "NATS_PORT", "nats", "NATS_PORT='nats' cannot be used"),
        ("coupon", "LOG_FORMAT", "xml", "LOG_FORMAT='xml' cannot be used"),
    ],
)
async def test_a_setting_that_cannot_be_meant_is_named(
    tmp_path: Path, service: str, setting: str, value: str, said: str
) -> None:
    ended = await run(f"{service}_svc", env=free_environment(tmp_path) | {setting: value})
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"{service}_svc cannot start: ")
    assert setting in ended.stderr
    assert said in ended.stderr
    assert not (tmp_path / service).exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_without_a_broker_it_lives_is_not_ready_and_stops_in_good_order(
    tmp_path: Path, how: signal.Signals
) -> None:
    env = free_environment(tmp_path)
    url = own_service_url("coupon", env)
    with started("coupon_svc", env=env, folder=tmp_path) as coupon:
        await answers(url)
        assert "broker" in str(why_not_ready(url))
        assert str(tmp_path / "coupon" / "events.sqlite") in coupon.output, "where it records"
        coupon.process.send_signal(how)
        assert await coupon.ended() == 0


async def test_a_client_that_waits_at_sigterm_gets_202_and_the_order_ends_after_the_restart(shop: Shop) -> None:
    shop.env["ORDER_WAIT_S"] = "60"
    await shop.stop("order")
    await shop.start("order")
    await shop.register("mug")
    await shop.kill("point")
    waiting = asyncio.create_task(shop.place([("mug", 1)]))
    async for _ in attempts("the order to be under way"):
        if await shop.available("mug") == 99:
            break

    assert await shop.stop("order") == 0
    answer = await waiting
    assert answer.status_code == 202
    assert answer.json()["status"] == "PENDING"
    assert answer.headers["Location"] == f"/orders/{answer.json()['order_id']}"

    await shop.start("order", "point")
    assert (await shop.until_ended(answer.json()["order_id"]))["status"] == "CONFIRMED"
