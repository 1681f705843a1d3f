"""Two brokers on one folder destroy what they wrote, so the second one is refused before it is started."""

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest

from infra.local import nats
from infra.local.guard import Guard
from infra.local.nats import launch_nats, run_nats, start_nats, store_holder
from infra.local.ports import free_ports
from infra.local.processes import StartFailed
from tests.e2e.processes import run, started
from tests.shop import Shop, attempts

LAUNCHING = """
import os, signal, subprocess
from infra.local.nats import start_nats
print(start_nats(os.environ, subprocess.DEVNULL).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def with_other_ports(env: dict[str, str]) -> dict[str, str]:
    """The same folder, and ports of its own."""
    (port,) = free_ports(1)
    return {**env, "NATS_PORT": str(port)}


@pytest.mark.parametrize("recipe", ["infra.local.nats", "infra.local.up"])
async def test_every_recipe_refuses_a_folder_that_a_broker_works_on(broker: Shop, recipe: str) -> None:
    second = await run(recipe, env=with_other_ports(broker.env))

    pid = broker.processes["nats"].pid
    assert second.returncode == 2
    assert f"another broker (process {pid}) works on {broker.folder / 'nats'}" in second.stderr
    assert "NATS_STORE_DIR" in second.stderr
    assert broker.processes["nats"].poll() is None


async def test_so_does_whatever_starts_one_as_a_child(broker: Shop) -> None:
    for start in (launch_nats, start_nats):
        with pytest.raises(StartFailed, match="another broker"):
            await asyncio.to_thread(start, with_other_ports(broker.env))


async def test_what_listens_on_the_brokers_port_is_not_taken_for_it(broker: Shop, tmp_path: Path) -> None:
    """The port of another system's broker, as if that had taken it since this one chose it."""
    env = {**broker.env, "NATS_STORE_DIR": str(tmp_path / "other")}
    with pytest.raises(StartFailed, match="nats-server ended with exit code 1"):
        await asyncio.to_thread(start_nats, env)
    with pytest.raises(StartFailed, match="nats-server ended with exit code 1"), run_nats(env):
        pytest.fail("another broker would be used")


async def test_the_lock_lasts_as_long_as_the_broker_not_as_long_as_what_started_it(
    broker: Shop, tmp_path: Path
) -> None:
    await broker.stop("nats")
    (tmp_path / "launching.py").write_text(LAUNCHING)
    env = broker.env | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with started("launching", env=env, folder=tmp_path) as launching:
        assert await launching.ended() == -signal.SIGKILL
        orphan = int(launching.output)

        second = await run("infra.local.nats", env=with_other_ports(broker.env))
        assert (second.returncode, f"(process {orphan})" in second.stderr) == (2, True)

        os.kill(orphan, signal.SIGKILL)
        async for _ in attempts("the orphan's end"):
            try:
                await broker.start_nats()
            except StartFailed:
                continue
            break


async def test_a_broker_whose_lock_cannot_be_written_is_not_left_running(
    broker: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.stop("nats")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(nats, "name_holder", full)
    with pytest.raises(StartFailed, match=rf"folder {broker.folder / 'nats'} cannot be used: No space left"):
        await asyncio.to_thread(launch_nats, broker.env)
    assert store_holder(broker.env) is None


async def test_a_broker_that_cannot_be_watched_is_not_left_running(
    broker: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.stop("nats")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Guard, "watch", interrupted)
    with pytest.raises(KeyboardInterrupt), run_nats(broker.env):
        pass
    assert store_holder(broker.env) is None


async def test_a_broker_that_was_killed_leaves_its_folder_free(broker: Shop) -> None:
    await broker.kill("nats")
    await broker.start_nats()

    assert broker.processes["nats"].poll() is None
