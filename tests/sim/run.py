"""Running schedules, and judging what they leave."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import structlog

from ops.invariants.checker import LogEntry, Message, check
from tests.sim.loop import VirtualLoop
from tests.sim.schedule import Schedule
from tests.sim.shop import Shop


class Outcome(NamedTuple):
    """What is wrong with a schedule's end: nothing, or what the invariants and customers say."""

    wrong: list[str]
    facts: int
    virtual_s: float


def run(plan: Schedule, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """Play a schedule from its beginning until all is quiet. `tell` gets its story, line by line."""
    loop = VirtualLoop()
    return loop.course(_run(plan, loop, tell))


async def _run(plan: Schedule, loop: VirtualLoop, tell: Callable[[str], None]) -> Outcome:
    shop = Shop(plan, tell)
    try:
        quiet = await shop.run()
        return Outcome(_judge(shop, quiet), sum(len(d.log) for d in shop.disks.values()), loop.time())
    finally:
        await shop.stop()


def _judge(shop: Shop, quiet: bool) -> list[str]:
    wrong = [] if quiet else ["it did not become quiet"]
    for name, process in shop.processes.items():
        if process.broken:
            wrong.append(f"{name}: {process.broken!r}")
    logs = {
        name: [LogEntry(n, r.originator_id, r.originator_version, r.state) for n, r in enumerate(disk.log, 1)]
        for name, disk in shop.disks.items()
    }
    stream = shop.server.stream
    messages = [Message(m.sequence, m.fact_id, m.body) for m in stream.messages] if stream else []
    return wrong + [f"{f.invariant}. {f.where}: {f.what}" for f in check(logs, messages, quiet=quiet)]


structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
