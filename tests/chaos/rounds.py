"""A round: customers order, faults happen, all of them are healed; then everything is checked."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from time import monotonic
from typing import Final, NamedTuple

from bench.load import Job, work
from bench.wares import Wares
from infra.local.processes import StartFailed
from infra.local.readiness import why_not_ready
from ops.audit.run import Options, audit
from ops.cli import EXIT_FINDING
from tests.chaos import ledger
from tests.chaos.customers import Customers
from tests.chaos.faults import go_wrong
from tests.chaos.plan import Fault
from tests.chaos.system import System
from tests.shop import PATIENCE_S

RATE: Final = 20.0  # orders a second
MOST_ORDERS: Final = 600  # of a round
GRACE: Final = timedelta(minutes=1)
QUIET_WITHIN_S: Final = 90.0
ANSWERS: Final = 100  # of each kind that the audit compares


class Round(NamedTuple):
    """The result of a round. `wrong`: everything lost, doubled, stuck, or found by the audit."""

    orders: int
    ended: Counter[str]
    customers: Counter[str]
    lost: list[str]
    doubled: list[str]
    stuck: list[str]
    found: list[str]
    seconds: tuple[float, float]
    """Seconds under faults, and seconds until all was quiet and audited."""

    @property
    def wrong(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.stuck, *self.found]


class Course:
    """Plays round after round with one system."""

    def __init__(self, system: System, seed: int) -> None:
        self._system = system
        self._seed = seed
        self._position = 0

    async def play(self, number: int, faults: Sequence[Fault]) -> Round:
        began = monotonic()
        system, wares = self._system, Wares(MOST_ORDERS, 3, 50, refusals=True, prefix=f"r{number}-")
        opened = await work(Job(do="open", urls=system.urls, wares=wares))
        assert not opened.wrong, opened.wrong
        customers = Customers(system.urls["order"], wares, random.Random(f"{self._seed}/{number}/customers"))
        async with asyncio.TaskGroup() as group:
            group.create_task(customers.order(RATE))
            await self._go_wrong(faults)
            found = await self._not_ready()
            if found:
                customers.all_is_healed(patience_s=0)
            else:
                customers.all_is_healed()
        faulty_s = monotonic() - began
        found = found or await self._not_quiet()
        orders, self._position = ledger.courses(system.folder / "order" / "events.sqlite", self._position)
        books = ledger.balance(customers.wishes, orders)
        if not found and not books.wrong:
            found += await ledger.totals(system.urls, wares, customers.wishes, orders)
        for fault in faults:
            if not found and fault.kind == "archive":
                found += await self._not_archived(fault.step)
        if not found:
            found += await self._audit()
        seconds = (faulty_s, monotonic() - began - faulty_s)
        return Round(len(customers.wishes), books.ended, customers.did, *books[:3], found, seconds)

    async def _not_ready(self) -> list[str]:
        """The services that do not become ready again, and why."""
        try:
            await self._system.ready()
        except StartFailed as error:
            whys = {name: why_not_ready(url) for name, url in self._system.urls.items()}
            return [str(error), *(f"{name}: {why}" for name, why in whys.items() if why)]
        return []

    async def _not_quiet(self) -> list[str]:
        try:
            await self._system.until_quiet(QUIET_WITHIN_S)
        except AssertionError as error:
            return [str(error)]
        return []

    async def _not_archived(self, step: str) -> list[str]:
        """Archive what is closed, once more by an archiver that dies at this step, and by one that goes on.

        What has to stay may stay. Returns why there is no archive to rely on.
        """
        await self._system.seal()
        if step:
            await self._system.archive(step)
        code = await self._system.archive()
        return [] if code in (0, EXIT_FINDING) else [f"the archiver ended with {code}: {self._system.log('archive')}"]

    async def _go_wrong(self, faults: Sequence[Fault]) -> None:
        async def one(fault: Fault) -> None:
            await asyncio.sleep(fault.at_s)
            await go_wrong(self._system, fault)

        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(one(fault))
        await self._system.heal()

    async def _audit(self) -> list[str]:
        """Run the product's own audit: all ten invariants over both copies of history."""
        folder = self._system.folder / "audit"
        options = Options(folder, GRACE, at_rest=True, full=False, against=None, answers=ANSWERS, timeout_s=PATIENCE_S)
        report = await audit(self._system.outside, options, _Unwatched())
        return [f"{finding.invariant}: {finding.where} {finding.what}" for finding in report.findings]


class _Unwatched:
    def begins(self, what: str, items: int) -> None:
        pass

    def advances(self, items: int) -> None:
        pass
