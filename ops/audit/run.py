"""One audit: take a cut, compare the logs with the last checkpoint, check what came since, write the report."""

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from infra import files
from infra.local.services import service_names
from infra.store.errors import is_damage
from infra.store.opening import damage
from infra.store.records import Notification
from ops import newer, reading, stores
from ops.audit import answers, checkpoint, cut, disk_memory, report
from ops.audit.answers import AnswerOptions
from ops.audit.archived_files import check_files
from ops.audit.chain import HashChain
from ops.audit.checkpoint import AuditCheckpoint
from ops.audit.cut import Cut, ServiceLogs
from ops.audit.disk_memory import DamagedMemory, DiskMemory
from ops.audit.feed import feed
from ops.audit.foreign_filter import ForeignFilter
from ops.audit.report import Answers, AuditedStream, AuditReport, NewerCode
from ops.client import TIMEOUT_S, services
from ops.invariants import Checker, Finding
from ops.invariants.unjudged import Unjudged
from ops.output import print_out
from ops.progress import Watch


class Options(NamedTuple):
    """The options of an audit.

    `folder`: for the report and the checkpoint. `grace`: how long after its deadline an order may be pending, and how
    long after its last fact a compensation may be missing. An order that ended late is no finding.
    `at_rest`: no order is in flight, so nothing may be missing. `full`: begin at the beginning of history, have SQLite
    check each store's whole file, and compare each file of the archive with its checksum. `against`: an earlier report
    that must still hold; None: the last one in `folder`, if its verdict is `good`. `answers`: the most subjects of each
    kind that the services are asked about; 0: none. `backup`: the stream is a restored backup, which may end before the
    logs. `foreign`: sequences of EVENTS that a person has judged to be foreign messages, or `all`; with any, services
    that are not ready are not asked. `timeout_s`: the longest wait for a service's answer, in seconds.
    """

    folder: Path
    grace: timedelta
    at_rest: bool
    full: bool
    against: Path | None
    answers: int
    backup: bool = False
    foreign: Collection[str] = ()
    timeout_s: float = TIMEOUT_S


async def audit(env: Mapping[str, str], options: Options, watch: Watch) -> AuditReport:
    """Audit the system of `env` and write `report.json` into the folder; if it is `good`, write the checkpoint, too.

    A checkpoint that is damaged is told on standard error, and not used. Raises Unreachable if the broker, a log or a
    service cannot be read, and OSError or sqlite3.Error if the folder cannot be written. Raises SettingsError,
    NotAReport (see `_earlier`), NoForeignFile, NoSuchMessage, Found (see `check_files`).
    """
    async with _opened(env) as (stream, logs):
        try:
            return await _Audit(env, options, watch, stream, logs).run()
        except DamagedMemory as damaged:
            print_out(f"{damaged}: it is not used, and all is audited from the beginning", error=True)
            return await _Audit(env, options, watch, stream, logs).run(anew=True)


@contextlib.asynccontextmanager
async def _opened(env: Mapping[str, str]) -> AsyncIterator[tuple[reading.Stream, ServiceLogs]]:
    async with contextlib.AsyncExitStack() as stack:
        logs: ServiceLogs = {name: await stack.enter_async_context(stores.log(env, name)) for name in service_names()}
        yield await stack.enter_async_context(reading.stream(env)), logs


@dataclass
class _Work:
    """One pass through history, with what it has gathered so far. `chains`: service → its log's chain.

    `since`: the cut after which the pass began; None: it began at the beginning.
    """

    memory: DiskMemory
    checker: Checker
    chains: dict[str, HashChain]
    since: Cut | None = None


class _Audit:
    def __init__(
        self, env: Mapping[str, str], options: Options, watch: Watch, stream: reading.Stream, logs: ServiceLogs
    ) -> None:
        self._began = time.monotonic()
        self._env = env
        self._options = options
        self._watch = watch
        self._stream = stream
        self._logs = logs
        self._earlier = _earlier(options)
        self._facts: Counter[str] = Counter()
        self._messages = 0
        self._code = checkpoint.code()  # now: the sources may change during a long audit
        self._foreign = ForeignFilter(env, options.foreign)

    async def run(self, *, anew: bool = False) -> AuditReport:
        """Audit from the checkpoint on, or from the beginning.

        From the beginning: with `full` or `anew`; without a checkpoint of this version; if a log was rewritten since,
        or the stream is not `same_stream`. Raises DamagedMemory if the checkpoint is damaged. With `full`, raises Found
        if a file of the archive is damaged. Otherwise raises as `audit` does.
        """
        path = self._options.folder / "checkpoint.sqlite"
        files.make_folder(self._options.folder)
        self._watch.begins("taking a cut", 0)
        now = await cut.take(self._stream, self._logs, backup=self._options.backup)
        if self._options.full:
            await check_files(self._stream, self._watch)
        findings: list[Finding] = []
        if path.exists() and not self._options.full and not anew:
            with disk_memory.working_copy(path, of=True) as memory:
                last = checkpoint.last(memory)
                if last is not None and last.is_current:
                    work = self._work(memory, now, last.cut)
                    self._watch.begins("comparing with the last audit", 0)
                    findings = await checkpoint.rewritten(self._logs, last, work.checker.facts, work.chains)
                    if not findings and await checkpoint.same_stream(self._stream, last, now):
                        return await self._report(now, work, path, [])
        with disk_memory.working_copy(path, of=False) as memory:
            return await self._report(now, self._work(memory, now), path, findings)

    def _work(self, memory: DiskMemory, now: Cut, since: Cut | None = None) -> _Work:
        options = self._options
        checker = Checker(quiet=options.at_rest, now=now.made_at, bound=options.grace, memory=memory)
        earlier = {} if self._earlier is None else self._earlier.logs
        chains = {name: HashChain([earlier[name].position] if name in earlier else []) for name in self._logs}
        return _Work(memory, checker, chains, since)

    async def _report(self, now: Cut, work: _Work, path: Path, findings: list[Finding]) -> AuditReport:
        """Check the rest of history, ask the services, and write `report.json` with `findings` and the new findings.

        If that is `good`, keep the checkpoint in the file `path`, whose working copy `work.memory` is.
        """
        checker, chains = work.checker, work.chains
        await self._feed(now, work)
        live, asked, options = None, Answers(), self._options
        if options.answers:  # a forged fact stops a service until this very audit has acknowledged it
            how = AnswerOptions(services(self._env), options.answers, options.timeout_s, ready=bool(options.foreign))
            live, asked = await answers.ask(how, self._logs, now, checker, self._watch)
        damaged = await self._damaged() if self._options.full else []
        if self._options.backup:
            for name, position in self._foreign.reached.items():
                now.published[name] = max(position, now.published[name])
        end = checker.finish(live, now.published)
        found = [*damaged, *findings, *self._contradictions(chains), *end, *self._foreign.finish()]
        tally = checker.tally()
        made = AuditReport(
            verdict="findings" if found else "newer-code" if checker.unjudged.facts else "good",
            made_at=now.made_at,
            took_s=round(time.monotonic() - self._began, 3),
            since=work.since,
            cut=now,
            at_rest=self._options.at_rest,
            logs={name: report.audited(chain) for name, chain in chains.items()},
            stream=AuditedStream(now.sequence, now.created, self._messages),
            facts=dict(sorted(self._facts.items())),
            orders=dict(sorted(tally.orders.items())),
            subjects=tally.subjects,
            answers=asked,
            foreign=self._foreign.counts,
            newer_code=NewerCode(checker.unjudged.facts, checker.unjudged.first, self._unknown_fields()),
            findings_by_rule=report.count(found),
            findings=found,
        )
        report.write(made, self._options.folder / "report.json")
        if made.good:
            last_stored = await cut.stored_at(self._stream, now.sequence) if now.sequence else None
            digests = {name: chain.digest for name, chain in chains.items()}
            last = AuditCheckpoint(checkpoint.FORMAT, now, digests, last_stored, self._code)
            work.memory.few("checkpoint", AuditCheckpoint)["last"] = last
            disk_memory.keep(work.memory, path)
        return made

    async def _feed(self, now: Cut, work: _Work) -> None:
        """Feed everything after `work.since` up to the cut `now` to the checker.

        While causes are after the cut, move the cut (`now.logs`) to them, and feed the logs up to there.
        """
        since, chains = work.since, work.chains
        begin = {name: 0 if since is None else since.logs.get(name, 0) for name in self._logs}
        count = now.messages_after(since)
        self._watch.begins("checking", sum(now.logs[name] - begin[name] for name in self._logs) + count)
        messages = self._read_stream(since, now, work.checker.unjudged) if count else None
        await feed(work.checker, self._read_logs(chains, begin, now.logs), messages, self._watch.advances)
        while moved := await cut.moved_to(self._logs, now, work.checker.awaited):
            begin = {name: now.logs[name] for name in moved}
            await feed(work.checker, self._read_logs(chains, begin, moved), None, self._watch.advances)
            now.logs.update(moved)

    def _read_logs(
        self, chains: Mapping[str, HashChain], begin: Mapping[str, int], end: Mapping[str, int]
    ) -> dict[str, AsyncGenerator[list[Notification]]]:
        return {name: self._read_log(name, chains[name], begin[name], end[name]) for name in begin}

    async def _read_log(self, name: str, chain: HashChain, begin: int, end: int) -> AsyncGenerator[list[Notification]]:
        async for records in stores.chunks(self._logs[name], begin, end):
            chain.take(records)
            self._facts.update(record.topic for record in records)
            yield records

    async def _read_stream(self, since: Cut | None, now: Cut, unjudged: Unjudged) -> AsyncGenerator[list[reading.Read]]:
        after = {} if since is None else since.ends
        async with contextlib.aclosing(
            reading.chunks(self._stream, after=after, last=now.sequence, ends=now.ends)
        ) as chunks:
            async for messages in chunks:
                self._messages += len(messages)
                if of_services := self._foreign.services(messages, unjudged):
                    yield of_services

    async def _damaged(self) -> list[Finding]:
        """Have SQLite check the whole file of each log, indexes included; return a finding for each fault.

        Of one file there are at most 10 findings. Raises Unreachable if a file cannot be read for another reason.
        """
        self._watch.begins("checking the files", 0)
        paths = {name: stores.store(self._env, name) for name in self._logs}
        return [
            Finding(0, f"{name} log, {path}", f"is damaged: {wrong}; rebuild it: just rebuild {name}")
            for name, path in paths.items()
            for wrong in await _faults(name, path)
        ]

    def _unknown_fields(self) -> list[str]:
        return sorted({word for name in self._logs for word in newer.fields(stores.folder(self._env, name))})

    def _contradictions(self, chains: Mapping[str, HashChain]) -> list[Finding]:
        """Return a finding for each log whose chain differs from the earlier report. Without a report, return none."""
        if self._earlier is None:
            return []
        return [
            Finding(
                0,
                f"{name} log, up to position {then.position}",
                f"is not what the report of {self._earlier.made_at.isoformat()} has; "
                f"the same up to {_last_common(then.links, chains[name].links)}",
            )
            for name, then in self._earlier.logs.items()
            if name in chains and chains[name].links.get(then.position) != then.sha256
        ]


async def _faults(service: str, path: Path) -> list[str]:
    try:
        return await damage(path, "integrity_check")
    except sqlite3.Error as error:
        if not is_damage(error):
            raise stores.unreadable(service, path, error) from error
        return [str(error)]


def _earlier(options: Options) -> AuditReport | None:
    """Read the report that must still hold: `against`, or the folder's last one if it is `good`; else None.

    Raises NotAReport if the report is unusable, or if `against` does not exist.
    """
    if options.against is not None:
        return report.read(options.against)
    path = options.folder / "report.json"
    last = report.read(path) if path.exists() else None
    return last if last is not None and last.good else None


def _last_common(one: Mapping[int, str], other: Mapping[int, str]) -> int:
    return max((position for position, digest in one.items() if other.get(position) == digest), default=0)
