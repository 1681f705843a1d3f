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
    """`decision`: the number of the one that rests on what the bug takes out.

    `faults`: what it takes to see it; without any, schedules of all kinds soon do. `of_the_domain`: deciders make it,
    so schedules of the core show it as well. `test`: the test that finds it where no schedule can. `near`: the seed
    with which the tests begin, because one soon after it has shown the bug; `just mechanisms` begins with 0.
    """

    name: str
    changes: tuple[Change, ...]
    decision: int
    faults: tuple[str, ...] = ()
    of_the_domain: bool = False
    test: str = ""
    near: int = 0

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

    @property
    def arguments(self) -> list[str]:
        """The arguments of `just sim` that let it show."""
        return [f"--fault={kind}" for kind in self.faults]

    def tested(self, root: Path) -> subprocess.CompletedProcess[str]:
        """The result of its test on a copy of the whole repository with the bug, in `root`."""
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        self.plant(root)
        return self._ran(root, "pytest", "-x", "-q", "-p", "no:cacheprovider", *self.test.split())

    def planted(self, root: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The result of a module with these arguments, on a copy of the code with the bug, in `root`."""
        for package in CODE:
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
        self.plant(root)
        return self._ran(root, module, *arguments)

    def _ran(self, root: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
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
        decision=6,
        near=105,
    ),
    Bug(
        "publishes what decide returned, not the log",
        (
            Change(
                "infra/core/unit_of_work.py",
                "            if decided.records:\n",
                "            if decided.records:\n"
                "                log = self._store._store\n"  # the relay's, which the writer's measures
                "                log.said = [*getattr(log, 'said', ()), *decided.records]\n"
                "                self._store.grown()\n",
            ),
            Change(
                "infra/core/writer.py",
                "        self._queue: deque[Work] = deque()\n",
                "        self._queue: deque[Work] = deque()\n        store.grown = lambda: recorded(())\n",
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
        decision=3,
    ),
    Bug(
        "gives each publish an id of its own",
        (
            Change(
                "infra/broker/fact_message.py", "{MSG_ID}: {fact_id(named, version)}", "{MSG_ID}: {id(reply)}@{version}"
            ),
        ),
        decision=3,
    ),
    Bug(
        "has no fence: an undo that comes before its action is forgotten",
        (
            Change(
                "point_svc/domain/use.py",
                "(PointUseVoided(**command.about_order()),)",
                "()",
            ),
        ),
        decision=5,
        of_the_domain=True,
    ),
    Bug(
        "refunds without looking whether anything was used",
        (
            Change("point_svc/domain/use.py", "            if state.answer is None:\n", "            if False:\n"),
            Change("point_svc/domain/use.py", '            if state.answer != "used":\n', "            if False:\n"),
            Change(
                "point_svc/domain/use.py",
                "            refunded = PointRefunded(points=state.points, **command.about_order())\n"
                "            return (*_moved(PointCredited, command, state.points), refunded)\n",
                "            points = command.fact.order.points\n"
                "            refunded = PointRefunded(points=points, **command.about_order())\n"
                "            return (*_moved(PointCredited, command, points), refunded)\n",
            ),
        ),
        decision=4,
        of_the_domain=True,
    ),
    Bug(
        "acknowledges what waits in the retry queue",
        (
            Change(
                "infra/consuming/consumer.py",
                "        first = min(self._waiting, default=None)\n",
                "        first = None\n",
            ),
        ),
        decision=28,
        near=97,
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
        decision=4,
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
        decision=6,
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
        decision=6,
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
        decision=3,
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
        decision=11,
        of_the_domain=True,
    ),
    Bug(
        "takes one customer's idempotency key for another's",
        (Change("order_svc/ids.py", 'f"{user_id}\\0{key}"', 'f"{key}"'),),
        decision=10,
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
        decision=7,
        near=100,
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
        decision=3,
        faults=("roll-back",),
    ),
    # Of the domain ----------------------------------------------------------------------------------------------------
    Bug(
        "holds the lines before the one that fails",
        (
            Change(
                "product_svc/domain/reservation.py",
                '            return (_failed(command, line, "product-out-of-stock"),)\n',
                "            held = _each_line(ProductStockHeld, command)[: lines.index(line)]\n"
                '            return (*held, _failed(command, line, "product-out-of-stock"))\n',
            ),
        ),
        decision=2,
        of_the_domain=True,
    ),
    Bug(
        "reserves a second time",
        (
            Change(
                "product_svc/domain/reservation.py",
                "            if state.answer is not None:\n",
                '            if state.answer not in (None, "reserved"):\n',
            ),
        ),
        decision=4,
        of_the_domain=True,
    ),
    Bug(
        "uses an order's points a second time",
        (
            Change(
                "point_svc/domain/use.py",
                "            if state.answer is not None:\n",
                '            if state.answer not in (None, "used"):\n',
            ),
        ),
        decision=4,
        of_the_domain=True,
    ),
    Bug(
        "uses a coupon for an order that got its answer",
        (
            Change(
                "coupon_svc/domain/use.py",
                "            if state.answer is not None:\n",
                '            if state.answer not in (None, "used"):\n',
            ),
        ),
        decision=4,
        of_the_domain=True,
    ),
    Bug(
        "confirms an order that has ended",
        (
            Change(
                "order_svc/domain.py",
                '        case Confirm():\n            if state.status != "PENDING":\n',
                "        case Confirm():\n            if state.order is None:\n",
            ),
        ),
        decision=4,
        of_the_domain=True,
    ),
    Bug(
        "has no fence in product_svc",
        (Change("product_svc/domain/reservation.py", "(ProductReserveVoided(**command.about_order()),)", "()"),),
        decision=5,
        of_the_domain=True,
    ),
    Bug(
        "has no fence in coupon_svc",
        (
            Change(
                "coupon_svc/domain/use.py",
                "(CouponUseVoided(coupon_id=coupon_id, **command.about_order()),)",
                "()",
            ),
        ),
        decision=5,
        of_the_domain=True,
    ),
    Bug(
        "acts although there is a fence",
        (Change("point_svc/domain/use.py", '            state.answer = "voided"\n', "            pass\n"),),
        decision=5,
        of_the_domain=True,
    ),
    # Of the relay -----------------------------------------------------------------------------------------------------
    Bug(
        "takes any stream for the one that it has published into",
        (
            Change(
                "infra/broker/gaps.py",
                "        if not await _goes_on(store, leader, reached):\n",
                "        if not leader:\n",
            ),
        ),
        decision=3,
        near=50,
        faults=("delete", "kill"),
    ),
    Bug(
        "sends without regard to the window",
        (
            Change(
                "infra/broker/window.py",
                "return not self._in_flight or position - self._span <= self.acked",
                "return True",
            ),
        ),
        decision=3,
        near=750,
    ),
    Bug(
        "reads nothing back before the newest fact in the stream",
        (
            Change(
                "infra/broker/resume.py",
                "    return missing[0].position - 1 if missing else newest\n",
                "    return newest\n",
            ),
        ),
        decision=37,
        near=330,
    ),
    Bug(
        "records before the log was compared with the stream",
        (
            Change(
                "infra/consuming/session.py",
                '        writer.suspend("the log has not been compared with the stream yet")\n',
                "",
            ),
        ),
        decision=3,
        faults=("roll-back",),
    ),
    Bug(
        "waits for an acknowledgement for ever",
        (
            Change(
                "infra/broker/relay.py",
                "self._loop.time() >= self._last_ack + self._ack_timeout_s:",
                "self._loop.time() >= self._last_ack + 1e6:",
            ),
        ),
        decision=25,
        near=10,
    ),
    Bug(
        "reads back from a follower that lags",
        (
            Change(
                "infra/broker/leader.py",
                "                raise _NotTheLeader  # it ends before",
                "                break  # it ends before",
            ),
        ),
        decision=37,
        near=435,
        faults=("stale", "roll-back"),
    ),
    Bug(
        "believes a follower about what is last",
        (
            Change(
                "infra/broker/leader.py",
                "if found is not None and (self._info.config.num_replicas or 1) == 1:",
                "if found is not None:",
            ),
        ),
        decision=37,
        near=435,
        faults=("stale", "roll-back"),
    ),
    # Of generations ---------------------------------------------------------------------------------------------------
    Bug(
        "continues in the wrong generation",
        (
            Change(
                "infra/broker/relay.py",
                "        self._publish_into(leaders[-1])\n",
                "        self._publish_into(leaders[0])\n",
            ),
        ),
        decision=46,
        faults=("roll", "kill"),
    ),
    Bug(
        "stops listening to a sealed generation that has more for it",
        (
            Change(
                "infra/consuming/consumer.py",
                "        self.retired = sealed and not left\n",
                "        self.retired = sealed\n",
            ),
        ),
        decision=46,
        faults=("roll", "pause", "poison"),
    ),
    Bug(
        "does not look again whether a sealed generation is still the same",
        (
            Change(
                "infra/broker/generations.py",
                "            if not info.config.sealed or number == turn:\n",
                "            if not info.config.sealed:\n",
            ),
            Change(
                "infra/broker/generations.py",
                "            elif not await is_archived(self._settings, number):\n",
                "            elif number < 0:\n",
            ),
        ),
        decision=46,
        near=310,
        faults=("roll", "delete"),
    ),
    Bug(
        "looks into no hole of the stream",
        (
            Change(
                "infra/broker/resume.py",
                "        lost = await lost_in_holes(service, store, leaders, range(floor + 1, acked + 1), window)\n",
                "        lost: list[int] = []\n",
            ),
        ),
        decision=37,
        near=135,
        faults=("hole",),
    ),
    # Of the archive ---------------------------------------------------------------------------------------------------
    Bug(
        "deletes a sealed generation before its files are proven",
        (
            Change(
                "ops/archive/archiving.py",
                "        draft = await self._files(info)\n",
                "        draft = await self._files(info)\n        await self._stream.js.delete_stream(draft.stream)\n",
            ),
        ),
        decision=47,
        faults=("archive",),
    ),
    Bug(
        "archives a generation before it is proven",
        (Change("ops/archive/archiving.py", "        await self._prove(draft)\n", ""),),
        decision=47,
        faults=("archive",),
    ),
    Bug(
        "archives a generation with an open order",
        (
            Change(
                "ops/archive/readiness.py",
                "    return reasons or await _open_orders(stream, info, log, watch)\n",
                "    return reasons\n",
            ),
        ),
        decision=47,
        faults=("archive",),
    ),
    Bug(
        "archives a generation that somebody has not heard",
        (
            Change(
                "ops/archive/readiness.py",
                "    return (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)\n",
                "    return 0\n",
            ),
        ),
        decision=47,
        near=55,
        faults=("archive",),
    ),
    Bug(
        "archives a generation that a dead letter points into",
        (Change("ops/archive/readiness.py", "    if not kept:\n        return []\n", "    return []\n"),),
        decision=47,
        faults=("archive", "poison", "kill"),
    ),
    Bug(
        "publishes again what is archived",
        (Change("infra/broker/resume.py", "    floor = archived.until\n", "    floor = 0\n"),),
        decision=47,
        faults=("archive", "lose-all"),
    ),
    Bug(
        "takes all before the last archived fact for archived",
        (
            Change(
                "infra/archive/manifest.py",
                "    return ArchivedLog(_whole_until(run for one in ranges for run in one.runs), newest.last, newest.last_id)\n",
                "    return ArchivedLog(newest.last, newest.last, newest.last_id)\n",
            ),
        ),
        decision=47,
        faults=("archive", "hole"),
    ),
    Bug(
        "publishes with a store that lacks what is archived",
        (Change("infra/broker/resume.py", "    await _check_archived(service, store, archived)\n", ""),),
        decision=47,
        near=15,
        faults=("archive", "roll-back"),
    ),
    Bug(
        "makes an archived generation again",
        (
            Change(
                "infra/broker/generations.py",
                "max([*numbers[-1:], first_kept(settings)])",
                "max([*numbers[-1:], 0])",
            ),
        ),
        decision=47,
        faults=("archive", "lose-all"),
    ),
    # Of the session ---------------------------------------------------------------------------------------------------
    Bug(
        "remembers nothing that it received",
        (Change("infra/consuming/consumer.py", "        self._received.add(delivery.position)\n", ""),),
        decision=27,
        near=24,
        faults=("outlive",),
    ),
    Bug(
        "knows a message by its sequence alone",
        (
            Change(
                "infra/broker/truncation.py",
                "return found is not None and found.stored_us == position.stored_us",
                "return found is not None",
            ),
        ),
        decision=27,
        near=740,
        faults=("outlive",),
    ),
    Bug(
        "leaves a consumer beyond the end of the stream",
        (Change("infra/broker/consumers.py", "    if known > last_sequence:\n", "    if known < 0:\n"),),
        decision=7,
        near=270,
        faults=("outlive", "kill"),
    ),
    Bug(
        "does not reset its consumer",
        (
            Change(
                "infra/broker/consumers.py",
                "    await js.reset_consumer(stream, name, restart_from)\n",
                "    if restart_from is not None:\n        await js.reset_consumer(stream, name, restart_from)\n",
            ),
        ),
        decision=7,
    ),
    Bug(
        "begins no session after an error that usually passes",
        (
            Change(
                "infra/consuming/supervisor.py",
                "            except Exception as error:\n                if not isinstance(error, PASSING):\n                    self._backoff.longest()\n",
                "            except Exception as error:\n                if isinstance(error, StoreError):\n                    raise\n                if not isinstance(error, PASSING):\n                    self._backoff.longest()\n",
            ),
        ),
        decision=7,
    ),
    # Of the writer ----------------------------------------------------------------------------------------------------
    Bug(
        "decides over committed states themselves, not over forks",
        (Change("infra/core/decider.py", "StreamState(committed.version, fork(committed.state))", "committed"),),
        decision=6,
        near=19,
    ),
    Bug(
        "acknowledges a batch that failed",
        (
            Change(
                "infra/core/results.py",
                "            source.acknowledger.failed(error)\n",
                "            source.acknowledger.handled(source.delivery)\n",
            ),
        ),
        decision=6,
        near=230,
    ),
    Bug(
        "takes an assumption for proven that no record proves",
        (
            Change(
                "infra/core/unit_of_work.py",
                "        if not assumed.keys() <= decided.forks.keys():\n",
                "        if not known.keys() <= known.keys():\n",
            ),
        ),
        decision=16,
    ),
    Bug(
        "folds a snapshot and all records",
        (
            Change(
                "infra/core/state_cache.py",
                "                folded.version = snapshot.originator_version\n",
                "                folded.version = snapshot.originator_version\n                records = [*records, *records[-1:]]\n",
            ),
        ),
        decision=6,
        near=4640,
    ),
    # Of the tail ------------------------------------------------------------------------------------------------------
    Bug(
        "keeps a tail that ends before the log",
        (
            Change(
                "infra/store/tail.py",
                "        if self._records and self._records[-1].position < last:\n",
                "        if last < 0:\n",
            ),
        ),
        decision=13,
        faults=("twin",),
    ),
    Bug(
        "answers from a tail that begins too late",
        (
            Change(
                "infra/store/tail.py",
                "not self._records or self._records[0].position > after + 1:",
                "not self._records:",
            ),
            Change(
                "infra/store/tail.py",
                "self._records[after + 1 - self._records[0].position :]",
                "self._records[max(0, after + 1 - self._records[0].position) :]",
            ),
        ),
        decision=13,
    ),
    Bug(
        "does not look for what another process has published",
        (Change("infra/broker/resume.py", "    await store.max_notification_id()\n    records", "    records"),),
        decision=13,
        faults=("twin",),
    ),
    # Of deadlines -----------------------------------------------------------------------------------------------------
    # Of dead letters --------------------------------------------------------------------------------------------------
)
