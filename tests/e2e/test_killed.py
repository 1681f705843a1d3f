"""Whatever is killed, and whenever: nothing of a system is left running, and what was recorded is published."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.nats import store_folder
from infra.local.services import ROOT, free_environment, service_names
from tests.e2e.processes import Started, is_running, running_in, started
from tests.shop import Shop, attempts, logged, open_shop

READY = "Ctrl-C stops everything"


async def all_gone(folder: Path) -> None:
    """Returns when no process is left that was started with this folder."""
    left: dict[int, str] = {}
    try:
        async for _ in attempts("the end of all processes"):
            if not (left := running_in(folder)):
                return
    except AssertionError as late:
        raise AssertionError(f"{late}: {left}") from None


def guards() -> set[int]:
    """The process ids of all guards of this machine."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"infra/local/guard.py" in (process / "cmdline").read_bytes():
                found.add(int(process.name))
    return found


async def test_killed_up_leaves_nothing_running_and_loses_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    try:
        with started("infra.local.up", env=shop.env | {"LOG_LEVEL": "debug"}, folder=tmp_path) as up:
            await up.prints(READY)
            await shop.register("mug")
            order_id = (await shop.place([("mug", 1)])).json()["order_id"]

            up.process.kill()
            await up.ended()
            await all_gone(tmp_path)
        stores = {name: tmp_path / name / "events.sqlite-wal" for name in service_names()}
        assert [name for name, wal in stores.items() if wal.exists()] == [], "each service ended in good order"
    finally:
        await shop.close()

    async with open_shop(tmp_path) as again:
        assert (await again.until_ended(order_id))["status"] == "CONFIRMED"
        await again.until_quiet()
        assert sum(logged(tmp_path, name) for name in service_names()) == len(await again.events())


async def test_the_guard_ends_with_what_it_guards(tmp_path: Path) -> None:
    before = guards()
    with started("infra.local.up", env=free_environment(tmp_path), folder=tmp_path) as up:
        await up.prints(READY)
        (guard,) = (found for found in guards() - before if f"PPid:\t{up.process.pid}" in status(found))
        up.process.terminate()
        assert await up.ended() == 0
        assert not is_running(guard)


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


async def test_a_killed_demo_leaves_nothing_running(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with started("ops.demo", env=env, folder=tmp_path) as demo:
        await demo.prints("Starting a broker")
        async for _ in attempts("the services to be there"):
            if sum("_svc" in command for command in running_in(tmp_path).values()) == len(service_names()):
                break
        demo.process.kill()
        await demo.ended()
        await all_gone(tmp_path)


WITH_A_BROKER_THAT_NEVER_LISTENS = """
import signal, sys
from pathlib import Path
from infra.local import nats, own_system

def never(*_):
    print("starting", flush=True)
    signal.pause()
    yield

nats.start_attempts = never
own_system.OwnSystem(Path(sys.argv[1])).__enter__()
"""


WITH_A_GUARD_THAT_IS_NEVER_TOLD = """
import signal, sys
from pathlib import Path
from infra.local import guard, own_system

def never(*_, last):
    print("starting", flush=True)
    signal.pause()

guard.Guard.watch = never
own_system.OwnSystem(Path(sys.argv[1])).__enter__()
"""


def starting_its_broker(code: str, folder: Path) -> subprocess.Popen[bytes]:
    """A process that runs this code, with a system below this folder, and stays where it starts its broker."""
    command = [sys.executable, "-c", code, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"starting\n"
    return process


@pytest.mark.parametrize("code", [WITH_A_BROKER_THAT_NEVER_LISTENS, WITH_A_GUARD_THAT_IS_NEVER_TOLD])
async def test_a_system_whose_launcher_is_killed_while_the_broker_starts_leaves_nothing_running(
    tmp_path: Path, code: str
) -> None:
    with starting_its_broker(code, tmp_path) as launcher:
        assert running_in(tmp_path)
        launcher.kill()
    await all_gone(tmp_path)


def just_up(folder: Path) -> subprocess.Popen[bytes]:
    env = free_environment(folder) | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    with (folder / "just.out").open("wb") as output:
        return subprocess.Popen(
            ["just", "up"], cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


async def test_up_stops_when_the_recipe_that_started_it_is_killed(tmp_path: Path) -> None:
    just = just_up(tmp_path)
    try:
        await Started(just, tmp_path / "just.out").prints(READY)
        just.kill()
        just.wait()
        await all_gone(tmp_path)
        assert "stopped" in (tmp_path / "just.out").read_text()
    finally:
        just.kill()
        just.wait()
        for pid in running_in(tmp_path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# In the first moments -------------------------------------------------------------------------------------------------


def begun(*command: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process that has held its signals back, and has imported little else."""
    trace = [sys.executable, "-X", "importtime", "-m", "infra.start", *command]
    process = subprocess.Popen(trace, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while b"infra.usage" not in process.stderr.readline():
        pass
    return process


@pytest.mark.parametrize(
    ("command", "code"),
    [
        *((("--service", name), 0) for name in service_names()),
        (("infra.local.up",), 0),
        (("infra.local.nats",), 0),
        (("ops.demo",), 130),
    ],
)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_it_is_imported_ends_it_in_good_order(
    tmp_path: Path, command: tuple[str, ...], code: int, how: signal.Signals
) -> None:
    process = begun(*command, env={**free_environment(tmp_path), "TMPDIR": str(tmp_path)})
    process.send_signal(how)
    process.communicate()

    assert process.returncode == code
    assert running_in(tmp_path) == {}


async def test_an_early_stop_of_up_ends_each_service_in_good_order(tmp_path: Path) -> None:
    with started("infra.local.up", env=free_environment(tmp_path), folder=tmp_path) as up:
        async for _ in attempts("the services to be there"):
            if sum("_svc" in command for command in running_in(tmp_path).values()) == len(service_names()):
                break
        up.process.terminate()
        assert await up.ended() == 0
        assert "SIGTERM: stopping everything" in up.output
        assert "was killed by" not in up.output
        assert running_in(tmp_path) == {}


RESTORES = """
import os, sys, time
from pathlib import Path
from ops.backup.restore import _broker
with _broker(os.environ, Path(sys.argv[1])):
    print("runs", flush=True)
    time.sleep(600)
"""


async def test_the_broker_of_a_killed_restore_ends(tmp_path: Path) -> None:
    env = free_environment(tmp_path)
    command = [sys.executable, "-c", RESTORES, str(tmp_path / "nats.log")]
    restore = await asyncio.create_subprocess_exec(*command, env=env, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert restore.stdout is not None
        assert await restore.stdout.readline() == b"runs\n"
        broker = int((store_folder(env) / "lock").read_text())
        assert is_running(broker)
    finally:
        restore.kill()
        await restore.wait()

    async for _ in attempts("the end of the broker"):
        if not is_running(broker):
            return
