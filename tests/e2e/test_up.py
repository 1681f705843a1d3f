"""`python -m infra.local.up`: everything in one terminal, and nothing of it afterwards."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from infra.local.nats import nats_environment
from infra.local.ports import is_free
from infra.local.services import ROOT, free_environment, service_names
from tests.e2e.processes import Started, is_running, left_in, on_a_terminal, run, running_in, started
from tests.shop import Shop, attempts

READY = "Ctrl-C stops everything"


def pids(up: Started) -> dict[str, int]:
    """The processes that it listed once all were ready."""
    return {name: int(pid) for name, pid in re.findall(r"\| +(\w+) +pid (\d+)", up.output)}


def relative_to_the_root(path: Path) -> str:
    return os.path.relpath(path, ROOT)


def ports(env: dict[str, str]) -> list[int]:
    return [int(value) for name, value in env.items() if name.endswith("_PORT")]


@pytest.fixture
async def closed_shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """The way into a shop that something else opens."""
    shop = Shop(tmp_path)
    yield shop
    await shop.close()


async def test_it_serves_orders_reports_a_death_and_stops_on_sigterm(closed_shop: Shop, tmp_path: Path) -> None:
    shop = closed_shop
    with started("infra.local.up", env=shop.env, folder=tmp_path) as up:
        await up.prints(READY)
        processes = pids(up)
        assert list(processes) == ["nats", *service_names(), "keeper", "dashboard"]
        for name in service_names():
            assert shop.url(name, "") in up.output
            assert (await shop.get(name, "/readyz")).status_code == 200
        dashboard = f"http://127.0.0.1:{shop.env['DASHBOARD_PORT']}"
        assert dashboard in up.output
        assert "Needs attention" in (await shop.http.get(f"{dashboard}/")).text
        await shop.register("mug")
        assert (await shop.place([("mug", 1)])).status_code == 200

        os.kill(processes["coupon"], signal.SIGKILL)
        await up.prints("coupon was killed by SIGKILL. The others keep running; `just roll` starts it again here")
        assert (await shop.place([("unknown", 1)])).json()["type"] == "/problems/product-unknown"
        os.kill(processes["dashboard"], signal.SIGKILL)
        await up.prints("`just dashboard` in another terminal restarts it; `just roll`")

        up.process.terminate()
        assert await up.ended() == 0
        assert not [pid for pid in processes.values() if is_running(pid)]
        labels = {line.partition("|")[0].strip() for line in up.output.splitlines()}
        assert labels == {
            "up",
            "keeper",
            "dashboard",
            *service_names(),
        }  # each line says whose it is; the broker had nothing to warn of
        assert "\033" not in up.output


async def test_ctrl_c_on_a_terminal_stops_everything(tmp_path: Path) -> None:
    env = free_environment(tmp_path) | {"NO_COLOR": ""}
    with on_a_terminal("infra.local.up", env=env, folder=tmp_path) as (up, keyboard):
        await up.prints(READY)
        assert "\033[1mup " in up.output  # colours
        os.write(keyboard, b"\x03")
        assert await up.ended() == 0
        assert running_in(tmp_path) == {}


async def test_a_second_ctrl_c_kills_what_will_not_stop(tmp_path: Path) -> None:
    with started("infra.local.up", env=free_environment(tmp_path), folder=tmp_path) as up:
        await up.prints(READY)
        os.kill(pids(up)["order"], signal.SIGSTOP)
        up.process.send_signal(signal.SIGINT)
        await up.prints("SIGINT: stopping everything")
        up.process.send_signal(signal.SIGINT)
        assert await up.ended() == 130
        assert "SIGINT again: killing everything" in up.output
        assert running_in(tmp_path) == {}


async def test_with_a_nats_url_it_uses_that_broker_and_leaves_it_alone(shop: Shop, tmp_path: Path) -> None:
    for name in service_names():
        await shop.stop(name)
    env = shop.env | {"NATS_URL": f"nats://127.0.0.1:{shop.env['NATS_PORT']}"}
    with started("infra.local.up", env=env, folder=tmp_path) as up:
        await up.prints(READY)
        assert list(pids(up)) == [*service_names(), "keeper", "dashboard"]
        for pid in pids(up).values():
            os.kill(pid, signal.SIGKILL)
        assert await up.ended() == 1
        assert "nothing is left running" in up.output
        assert shop.processes["nats"].poll() is None


async def test_a_service_that_cannot_start_stops_the_rest(tmp_path: Path) -> None:
    env = free_environment(tmp_path)
    (tmp_path / "point").write_text("no folder")
    up = await run("infra.local.up", env=env)
    assert up.returncode == 2
    assert "point     | point_svc cannot start: " in up.stdout
    assert "up        | point ended with exit code 2 instead of starting: stopping everything" in up.stdout
    assert running_in(tmp_path) == {}
    assert all(is_free(port) for port in ports(env))


async def test_a_taken_port_of_the_broker_is_said_before_anything_starts(tmp_path: Path) -> None:
    env = free_environment(tmp_path)
    with socket.create_server(("127.0.0.1", int(env["NATS_PORT"]))):
        up = await run("infra.local.up", env=env)
    assert up.returncode == 2
    assert f"cannot start: port {env['NATS_PORT']}" in up.stderr
    assert "NATS_PORT" in up.stderr
    assert "NATS_URL" in up.stderr
    assert left_in(tmp_path) == []


async def test_a_taken_port_of_a_service_is_said_before_anything_starts(shop: Shop, tmp_path: Path) -> None:
    env = shop.env | {"NATS_URL": f"nats://127.0.0.1:{shop.env['NATS_PORT']}", "DATA_DIR": str(tmp_path / "another")}
    up = await run("infra.local.up", env=env)
    assert (up.returncode, up.stdout) == (2, "")
    for name in service_names():
        assert f"{env[f'{name}_port'.upper()]} for {name}_svc ({name.upper()}_PORT)" in up.stderr
    assert not (tmp_path / "another").exists()


async def test_a_taken_port_of_the_dashboard_is_said_before_anything_starts(tmp_path: Path) -> None:
    env = free_environment(tmp_path)
    with socket.create_server(("127.0.0.1", int(env["DASHBOARD_PORT"]))):
        up = await run("infra.local.up", env=env)
    assert (up.returncode, up.stdout) == (2, "")
    assert f"port {env['DASHBOARD_PORT']}, which is for the dashboard" in up.stderr
    assert "DASHBOARD_PORT" in up.stderr
    assert left_in(tmp_path) == []


async def test_a_running_system_of_the_same_folder_is_named(shop: Shop) -> None:
    up = await run("infra.local.up", env=shop.env)
    assert (up.returncode, up.stdout) == (2, "")
    assert f"running already: its broker is process {shop.processes['nats'].pid}, on port" in up.stderr
    assert "NATS_URL" not in up.stderr


@pytest.mark.parametrize(
    ("setting", "value"), [("NATS_PORT", "here"), ("BIND_HOST", "0.0.0.0"), ("ALLOWED_HOSTS", "http://shop.example")]
)
async def test_a_setting_that_cannot_be_used_is_named_before_anything_starts(
    tmp_path: Path, setting: str, value: str
) -> None:
    up = await run("infra.local.up", env=free_environment(tmp_path) | {setting: value})
    assert up.returncode == 2
    assert setting in up.stderr
    assert left_in(tmp_path) == []


async def test_the_broker_alone_takes_the_place_of_the_process_that_starts_it(tmp_path: Path) -> None:
    env = free_environment(tmp_path)
    with started("infra.local.nats", env=env, folder=tmp_path) as nats:
        async for _ in attempts("the broker to listen"):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(env["NATS_PORT"]))):
                break
        assert "nats-server" in running_in(tmp_path)[nats.process.pid]
        nats.process.terminate()
        assert await nats.ended() == 0
    assert (tmp_path / "nats").is_dir()


@pytest.mark.parametrize(
    ("module", "env", "why"),
    [
        ("infra.local.nats", {"GOMAXPROCS": "abc"}, "GOMAXPROCS='abc' cannot be used"),
        ("infra.local.nats", {"NATS_PORT": "99999"}, "NATS_PORT='99999' cannot be used"),
        ("infra.local.up", {"GOMAXPROCS": "abc"}, "GOMAXPROCS='abc' cannot be used"),
        ("infra.local.up", {"NATS_URL": "foo"}, "NATS_URL is not a broker's address"),
        ("infra.local.up", {"ORDER_PORT": "8002", "POINT_PORT": "8002"}, "ORDER_PORT and POINT_PORT are both 8002"),
    ],
)
async def test_a_wrong_setting_is_refused_before_anything_starts(
    module: str, env: dict[str, str], why: str, closed_shop: Shop, tmp_path: Path
) -> None:
    ended = await run(module, env={**closed_shop.env, **env})

    assert (ended.returncode, why in ended.stderr) == (2, True), ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "nats").exists()


@pytest.mark.parametrize("name", [".data", "1 of my shops", "7up"])
async def test_data_may_lie_in_any_folder_also_a_relative_one(name: str, closed_shop: Shop, tmp_path: Path) -> None:
    folder = relative_to_the_root(tmp_path / name)
    env = {key: value for key, value in closed_shop.env.items() if key != "NATS_STORE_DIR"} | {"DATA_DIR": folder}
    with started("infra.local.up", env=env, folder=tmp_path) as up:
        await up.prints(READY)
        up.process.terminate()
        assert await up.ended() == 0
    identities = {f"{service}.identity" for service in service_names()}
    assert {path.name for path in (tmp_path / name).iterdir()} == {"nats", *service_names(), *identities}


def test_the_default_folder_is_a_value_to_the_broker() -> None:
    """Nobody else names `.data`: what `just up` does when nothing is set."""
    assert nats_environment({})["NATS_STORE_DIR"] == f'"{ROOT / ".data" / "nats"}"'


def up_into(output: int, env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "infra.local.up"], cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT
    )


async def test_a_full_disk_under_its_output_stops_nothing(closed_shop: Shop, tmp_path: Path) -> None:
    shop = closed_shop
    full = os.open("/dev/full", os.O_WRONLY)
    up = up_into(full, shop.env)
    try:
        async for _ in attempts("all services to be ready"):
            with contextlib.suppress(httpx.TransportError):
                if all([(await shop.get(name, "/readyz")).status_code == 200 for name in service_names()]):
                    break
        await shop.register("mug")
        assert (await shop.place([("mug", 1)])).status_code == 200
        assert up.poll() is None
        up.terminate()
        assert await asyncio.to_thread(up.wait, 30) == 0
    finally:
        up.kill()
        up.wait()
        os.close(full)
    assert running_in(tmp_path) == {}


async def test_it_stops_when_nobody_is_left_to_read_its_output(tmp_path: Path) -> None:
    with up_into(subprocess.PIPE, free_environment(tmp_path)) as up:
        assert up.stdout is not None
        await asyncio.to_thread(up.stdout.readline)
        up.stdout.close()
        assert await asyncio.to_thread(up.wait, 60) == 0
    assert running_in(tmp_path) == {}
