"""Deliberate bugs, each a change to a copy of the code: the simulator is as good as the bugs that it finds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from infra.local.services import ROOT, service_names

CODE: Final = ("contracts", "infra", *(f"{name}_svc" for name in service_names()), "ops", "bench", "tests")


class Change(NamedTuple):
    """Replaces the one place in this file that reads `old` by `new`."""

    file: str
    old: str
    new: str


class Bug(NamedTuple):
    """`faults`: what it takes to see it; without any, schedules of all kinds soon do.

    `of_the_domain`: deciders make it, so schedules of the core show it as well.
    """

    name: str
    changes: tuple[Change, ...]
    faults: tuple[str, ...] = ()
    of_the_domain: bool = False

    def plant(self, root: Path) -> None:
        """Change the code below `root`. Raises ValueError unless there is exactly one such place."""
        for file, old, new in self.changes:
            text = (root / file).read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {file} has {text.count(old)} places that read {old!r}")
            (root / file).write_text(text.replace(old, new), encoding="utf-8")

    def shown_by(self, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The result of `just sim` with these arguments, on a copy of the code with the bug, in `root`."""
        return self.planted(root, "tests.sim", "--jobs", "1", "--no-shrink", *arguments)

    def planted(self, root: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The result of a module with these arguments, on a copy of the code with the bug, in `root`."""
        for package in CODE:
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
        self.plant(root)
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(root)},
            capture_output=True,
            text=True,
            check=False,
        )


BUGS: Final = (
    Bug(
        "acknowledges before it has recorded",
        (
            Change(
                "infra/core/writer.py",
                "        work, decided, outcomes = await self._decide_and_record(batch)\n",
                "        for source in batch:\n"
                "            if isinstance(source, Delivered):\n"
                "                source.acknowledger.handled(source.delivery)\n"
                "        work, decided, outcomes = await self._decide_and_record(batch)\n",
            ),
        ),
    ),
    Bug(
        "publishes what decide returned, not the log",
        (
            Change(
                "infra/core/unit_of_work.py",
                "            if decided.records:\n",
                "            if decided.records:\n"
                "                self._store.said = [*getattr(self._store, 'said', ()), *decided.records]\n"
                "                self._store.grown()\n",
            ),
            Change(
                "infra/core/writer.py",
                "        self._queue: deque[Work] = deque()\n",
                "        self._queue: deque[Work] = deque()\n"
                "        store.grown = lambda: recorded(())\n",
            ),
            Change(
                "infra/broker/relay.py",
                "            read = await self._store.select_notifications(position, self._read_batch)\n",
                "            said, self._store.said = getattr(self._store, 'said', ()), ()\n"
                "            read = [Notification(position + n, *one) for n, one in enumerate(said, 1)]\n"
                "            if not read:\n"
                "                read = await self._store.select_notifications(position, self._read_batch)\n",
            ),
        ),
    ),
    Bug(
        "gives each publish an id of its own",
        (Change("infra/broker/relay.py", "{MSG_ID}: {fact_id(named, version)}", "{MSG_ID}: {id(reply)}@{version}"),),
    ),
    Bug(
        "has no fence: an undo that comes before its action is forgotten",
        (
            Change(
                "point_svc/domain.py",
                "(PointUseVoided(**command.about_order()),)",
                "()",
            ),
        ),
        of_the_domain=True,
    ),
    Bug(
        "refunds without looking whether anything was used",
        (
            Change(
                "point_svc/domain.py",
                "            if order_id in state.used:\n                return (",
                "            if True:\n                return (",
            ),
            Change(
                "point_svc/domain.py",
                "(PointRefunded(points=state.used[order_id], ",
                "(PointRefunded(points=command.fact.order.points, ",
            ),
            Change(
                "point_svc/domain.py",
                "            del state.used[event.order_id]\n",
                "            state.used.pop(event.order_id, None)\n",
            ),
        ),
        of_the_domain=True,
    ),
    Bug(
        "acknowledges what waits to be parked",
        (
            Change(
                "infra/consuming/consumer.py",
                "        first = min(self._waiting, default=None)\n",
                "        first = None\n",
            ),
        ),
        faults=("poison", "kill", "cut"),
    ),
    Bug(
        "releases twice",
        (
            Change(
                "product_svc/domain/reservation.py",
                '            if state.answer != "reserved":',
                '            if state.answer not in ("reserved", "released"):',
            ),
        ),
        of_the_domain=True,
    ),
    Bug(
        "decides on what it knew before a conflict",
        (
            Change(
                "infra/core/unit_of_work.py",
                "                self.state_cache.evict(streams)\n",
                "                newer = await self._store.select_streams(list(decided.forks), ())\n"
                "                for stream, found in newer.items():\n"
                "                    known[stream].version = found.records[-1].originator_version\n",
            ),
        ),
        faults=("twin", "kill"),
    ),
    Bug(
        "records a batch in two transactions",
        (
            Change(
                "infra/core/unit_of_work.py",
                "                await self._store.insert_events(decided.records)\n",
                "                await self._store.insert_events(decided.records[:1])\n"
                "                await self._store.insert_events(decided.records[1:])\n",
            ),
        ),
    ),
    Bug(
        "keeps its place in the stream as what it has sent, not as what was taken",
        (
            Change(
                "infra/broker/relay.py",
                "        self._window = Window(resumed.acked, self._span)\n",
                "        self._window = Window(max(resumed.acked, getattr(self._store, 'sent', 0)), self._span)\n",
            ),
            Change(
                "infra/broker/relay.py",
                "                position = read[-1].position\n",
                "                position = self._store.sent = read[-1].position\n",
            ),
        ),
    ),
    Bug(
        "cancels an order whose deadline has passed, though it is confirmed",
        (
            Change(
                "order_svc/domain.py",
                '            if state.status != "PENDING" or state.order is None:\n',
                '            if state.status == "CANCELED" or state.order is None:\n',
            ),
            Change(
                "order_svc/deadlines.py",
                "            elif isinstance(fact, OrderConfirmed | OrderCanceled):\n",
                "            elif isinstance(fact, OrderCanceled):\n",
            ),
        ),
        of_the_domain=True,
    ),
    Bug(
        "takes one customer's idempotency key for another's",
        (Change("order_svc/ids.py", 'f"{user_id}\\0{key}"', 'f"{key}"'),),
        of_the_domain=True,
    ),
    Bug(
        "takes no notice of a delivery that is missing",
        (
            Change(
                "infra/consuming/consumer.py",
                "        if number != self._last_delivery + 1:",
                "        if number < 0:",
            ),
        ),
        faults=("drop", "cut"),
    ),
    Bug(
        "speaks though its store is older than what it has said",
        (
            Change(
                "infra/consuming/session.py",
                "            self._writer.suspend(reason, reads_too=True)\n",
                "            self._writer.resume()\n",
            ),
        ),
        faults=("roll-back",),
    ),
    Bug(
        "never looks at its log but when it has recorded something itself",
        (
            Change("infra/consuming/session.py", "            relay.log_has_grown()\n\n    async", "\n    async"),
            # A session that ends because another one took over looks at it, too.
            Change(
                "infra/consuming/consumer.py",
                "        if inbox != self._pull.inbox.encode():\n",
                "        if not inbox:\n",
            ),
        ),
        faults=("twin",),
    ),
)
