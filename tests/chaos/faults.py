"""The faults by name, as plans have them: how each begins, and how it ends."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final

from nats.errors import Error as NatsError

from infra.broker.rolling import roll
from infra.local.ports import free_ports
from infra.local.processes import STOP_TIMEOUT_S, start_service
from infra.settings import Settings
from infra.usage import EXIT_USAGE
from ops.cli import EXIT_FINDING, EXIT_UNREACHABLE
from tests.chaos.disk import ARCHIVE
from tests.chaos.plan import EVERYTHING, Fault
from tests.chaos.system import BROKER, BROKER_KILLED, POWER_CUT, SERVICE_KILLED, SERVICES, STORE_LOST, Did, System
from tests.shop import attempts

AT_STEP_S: Final = 6.0
"""A process that answers for this long without reaching its step, for want of orders, is killed where it is."""
WORK_S: Final = 0.5  # of undisturbed work for a process between two faults
NARROW_BYTES_PER_S: Final = 40_000
SLOW_S: Final = 0.15
ARCHIVERS: Final = 3
"""How many try one after another, while orders are on their way in the generation."""


async def go_wrong(system: System, fault: Fault) -> None:
    await FAULTS[fault.kind](system, fault)


@contextlib.asynccontextmanager
async def _alone(system: System, names: Sequence[str]) -> AsyncIterator[None]:
    """Keep other faults away from these processes meanwhile, once they have been running for a while."""
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            await stack.enter_async_context(system.busy[name])
        await asyncio.gather(*map(system.up, names))
        await asyncio.sleep(WORK_S)
        yield


# Of processes ---------------------------------------------------------------------------------------------------------


async def _kill(system: System, fault: Fault) -> None:
    """Kill a process at a random time; then, started again, at a step."""
    who = fault.who
    async with _alone(system, [who]):
        await _die(system, who, "at a random time")
        if fault.step:
            await system.spawn(who, fault.step, fault.passed)
            await _die_at(system, who, fault.step)
        await asyncio.sleep(fault.for_s)
        await system.spawn(who)
        await system.up(who)


async def _die(system: System, who: str, where: str) -> None:
    if system.processes[who].poll() is None:
        await system.kill(who)
        system.did[Did(BROKER_KILLED, who) if who == BROKER else Did(SERVICE_KILLED, who, where)] += 1
    else:
        system.had_ended[who] += 1


async def _die_at(system: System, who: str, step: str) -> None:
    await system.up(who)
    with contextlib.suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(system.processes[who].wait, AT_STEP_S)
    code = system.processes[who].poll()
    if code is None:
        await _die(system, who, "before its step")
        return
    assert code == -signal.SIGKILL, f"{who} ended with {code} instead of dying when it had {step}"
    system.did[Did(SERVICE_KILLED, who, step)] += 1


async def _pause(system: System, fault: Fault) -> None:
    """Stop a process for longer than the broker waits for an acknowledgement. It continues without knowing of that.

    A process that is started in its place meanwhile is turned away by the lock.
    """
    who = fault.who
    async with _alone(system, [who]):
        system.processes[who].send_signal(signal.SIGSTOP)
        (port,) = free_ports(1)
        with system.log(f"{who}-2nd").open("ab") as output:
            second = start_service(who, {**system.env, f"{who}_PORT".upper(): str(port)}, output)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(fault.for_s))
                ended = group.create_task(asyncio.to_thread(second.wait, fault.for_s))
        finally:
            second.kill()
        assert ended.result() == EXIT_USAGE, f"a second process of {who} came to work on its store"
        system.processes[who].send_signal(signal.SIGCONT)
        system.did[Did("service paused", who)] += 1


async def _lose(system: System, fault: Fault) -> None:
    """Delete the broker's whole store."""
    async with _alone(system, [BROKER]):
        await system.kill(BROKER)
        system.lose_stream()
        await asyncio.sleep(fault.for_s)
        await system.spawn(BROKER)
        system.did[Did(STORE_LOST, fault.who)] += 1


async def _roll(system: System, fault: Fault) -> None:
    """Make the next generation of the stream; then, maybe, seal those before. Other faults may hit the broker then."""
    made = False
    async for _ in attempts("the stream to roll over"):
        with contextlib.suppress(OSError, NatsError):
            async with system.broker() as nc:
                js = nc.jetstream(timeout=2)
                if not made and await roll(nc, js, Settings(port=1), "a fault") is not None:
                    system.did[Did("rolled over", BROKER)] += 1
                made = True
                await asyncio.sleep(fault.for_s)
                if fault.passed:
                    await system.seal()
                    system.did[Did("sealed", BROKER)] += 1
            return


async def _archive(system: System, fault: Fault) -> None:
    """Archive what is closed, with one archiver after another. The first one dies at its step."""
    step = fault.step
    for _ in range(ARCHIVERS):
        with contextlib.suppress(OSError, NatsError):  # the broker is away: the archiver will say so
            await system.seal()
        code = await system.archive(step)
        assert code in (0, EXIT_FINDING, EXIT_UNREACHABLE, -signal.SIGKILL), f"an archiver ended with {code}"
        step = step if code == EXIT_UNREACHABLE else ""
        await asyncio.sleep(fault.for_s)


# Of disks -------------------------------------------------------------------------------------------------------------


async def _power(system: System, fault: Fault) -> None:
    """Cut the power of one machine or of all: writes that were not synced are gone."""
    assert system.disk is not None
    names = (*SERVICES, BROKER) if fault.who == EVERYTHING else (fault.who,)
    async with _alone(system, names), contextlib.AsyncExitStack() as stack:
        if fault.who == EVERYTHING:
            system.kill_archiver()
            await stack.enter_async_context(system.archiving)
        for name in names:
            if system.processes[name].poll() is None:
                system.processes[name].send_signal(signal.SIGKILL)
        for name in names:
            await system.stop(name, signal.SIGKILL)
        machines = (*names, ARCHIVE) if fault.who == EVERYTHING else names
        system.dropped += await system.disk.cut(*machines, luck=fault.luck)
        await asyncio.sleep(fault.for_s)
        for name in reversed(names):
            await system.spawn(name)
        await asyncio.gather(*map(system.up, names))
        system.did[Did(POWER_CUT, fault.who)] += 1


async def _full(system: System, fault: Fault) -> None:
    """Fill a disk, so that nothing more can be written. Processes that ended are started again, as a supervisor would.

    The broker always is: after one failed write, a stream refuses every message until nats-server restarts.
    """
    assert system.disk is not None
    async with _alone(system, [fault.who]):
        await system.disk.fill(fault.who)
        await asyncio.sleep(fault.for_s)
        await system.disk.free(fault.who)
        ended = system.processes[fault.who].poll() is not None
        if ended:
            system.had_ended[fault.who] += 1
        elif fault.who == BROKER:
            await system.stop(BROKER)
        if ended or fault.who == BROKER:
            await system.spawn(fault.who)
            await system.up(fault.who)
        system.did[Did("disk full", fault.who)] += 1


async def _lock(system: System, fault: Fault) -> None:
    """Hold the store's write lock for longer than the service waits for it."""
    async with _alone(system, [fault.who]):
        file = system.folder / fault.who / "events.sqlite"
        connection = sqlite3.connect(file, isolation_level=None, timeout=STOP_TIMEOUT_S, check_same_thread=False)
        with contextlib.closing(connection):
            await asyncio.to_thread(connection.execute, "BEGIN EXCLUSIVE")
            await asyncio.sleep(fault.for_s)
            connection.execute("ROLLBACK")
        system.did[Did("store locked", fault.who)] += 1


# Of lines to the broker -----------------------------------------------------------------------------------------------


async def _line(system: System, fault: Fault) -> None:
    line = system.lines[fault.who]
    match fault.kind:
        case "cut":
            line.refusing = True
            line.cut()
        case "hold":
            line.hold()
        case "slow":
            line.delay_s = SLOW_S
        case "narrow":
            line.bytes_per_s = NARROW_BYTES_PER_S
    await asyncio.sleep(fault.for_s)
    line.heal()
    system.did[Did(f"line {fault.kind}", fault.who)] += 1


FAULTS: Final[dict[str, Callable[[System, Fault], Coroutine[Any, Any, None]]]] = {
    "kill": _kill,
    "pause": _pause,
    "lose": _lose,
    "roll": _roll,
    "archive": _archive,
    "power": _power,
    "full": _full,
    "lock": _lock,
    "cut": _line,
    "hold": _line,
    "slow": _line,
    "narrow": _line,
}
