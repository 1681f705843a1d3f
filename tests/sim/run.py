"""Runs schedules, and judges their results."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ops.invariants.checker import LogEntry, Message, check
from tests.sim.loop import Stuck, VirtualLoop
from tests.sim.schedule import Schedule
from tests.sim.shop import Shop


class Outcome(NamedTuple):
    """The errors at a schedule's end: none, or those that the invariants and the customers found."""

    wrong: list[str]
    facts: int
    virtual_s: float
    archived: int = 0
    """How many generations were archived."""


def run(plan: Schedule, handle: Callable[[str], None] | None = None) -> Outcome:
    """Play a schedule from its beginning until all is quiet. `handle` gets its story, line by line."""
    loop = VirtualLoop(handle)
    try:
        outcome = loop.course(_run(plan, loop))
    except Stuck as stuck:
        outcome = Outcome([str(stuck)], 0, loop.time())
    for line in outcome.wrong:
        loop.note("WRONG {}", line)
    return outcome


async def _run(plan: Schedule, loop: VirtualLoop) -> Outcome:
    shop = Shop(plan)
    wrong: list[str] = []
    try:
        quiet = await shop.run()
        wrong += _judge(shop, quiet, await shop.history())
    except* Exception as errors:
        wrong += [repr(error) for error in errors.exceptions]
    finally:
        await shop.stop()
    wrong += [str(error.get("exception", error["message"])) for error in loop.errors]
    archived = 0 if shop.archive is None else shop.archive.generations
    return Outcome(wrong, sum(len(disk.log) for disk in shop.disks.values()), loop.time(), archived)


def _judge(shop: Shop, quiet: bool, messages: Sequence[Message]) -> list[str]:
    wrong = [] if quiet else ["it did not become quiet"]
    for name, process in shop.processes.items():
        if process.broken:
            wrong.append(f"{name}: {process.broken!r}")
    logs = {
        name: [LogEntry(n, r.originator_id, r.originator_version, r.state) for n, r in enumerate(disk.log, 1)]
        for name, disk in shop.disks.items()
    }
    wrong += [] if shop.archive is None else shop.archive.wrong
    return wrong + [f"{f.invariant}. {f.where}: {f.what}" for f in check(logs, messages, quiet=quiet)]
