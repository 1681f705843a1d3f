"""Decides a whole history again, service by service, and reports the differences."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

import msgspec

from contracts.wire import NAMES, said_by
from infra.store.records import Notification
from ops.what_if.difference import Difference
from ops.what_if.history import RecordedHistory
from ops.what_if.judge import Code, DecisionCounts, Judge, Run, Runs

SHOWN: Final = 20  # differences


class WhatIfReport(msgspec.Struct):
    """The result of `decide_again`. `services`: by service, the counts of everything that was found.

    `differences`: only the first `most`, in the order in which they were found; those of the kind `newer`, too.
    """

    services: dict[str, DecisionCounts]
    differences: list[Difference]

    def total(self, count: str) -> int:
        """Return the sum over all services of `count`, a field of DecisionCounts."""
        return sum(getattr(counts, count) for counts in self.services.values())


def _ignore(_: int) -> None:
    """Ignore the progress."""


async def decide_again(
    history: RecordedHistory, codes: Iterable[Code], most: int = SHOWN, advanced: Callable[[int], None] = _ignore
) -> WhatIfReport:
    """Judge every log of the history with its service's code. Raises what the history raises.

    `most`: how many differences are kept. `advanced` is called with the number of positions done since its last call;
    `work` gives about their total.

    There is one pass over each log, with one lookup of the causes for each list of records, and one more pass over the
    facts that each service hears. A thousand records take about 30 ms. It keeps the states of one service at a time,
    not the bodies of its log.
    """
    by_name = {code.name: code for code in codes}
    report = WhatIfReport({}, [])

    def found(difference: Difference) -> None:
        if len(report.differences) < most:
            report.differences.append(difference)

    for name, end in history.ends.items():
        code = by_name.get(name) or Code(name, {}, {})  # no service of the working tree has this log
        judge, runs = Judge(code, found), Runs()
        async for records in _watched(history.log(name), end, advanced):
            await _judge(history, judge, list(runs.take(records)))
        await _judge(history, judge, list(runs.rest()))
        for sayer, topics in _heard(code, history).items():
            async for records in _watched(history.said(sayer, topics), history.ends[sayer], advanced):
                for record in records:
                    judge.ask_again(record)
        report.services[name] = judge.counts
    return report


def work(history: RecordedHistory, codes: Iterable[Code]) -> int:
    """Return about how many positions `decide_again` goes through: the total for `advanced`."""
    heard = sum(history.ends[sayer] for code in codes for sayer in _heard(code, history))
    return sum(history.ends.values()) + heard


def _heard(code: Code, history: RecordedHistory) -> Mapping[str, list[str]]:
    """Map each service in the history to the names of its facts that the service of `code` hears, if any."""
    heard: dict[str, list[str]] = {}
    for name in (NAMES[fact] for fact in code.reactions):
        if said_by(name) in history.ends:
            heard.setdefault(said_by(name), []).append(name)
    return heard


async def _judge(history: RecordedHistory, judge: Judge, runs: Sequence[Run]) -> None:
    causes = await history.find({run.cause for run in runs if run.cause is not None})
    for run in runs:
        judge.take(run, None if run.cause is None else causes.get(run.cause))


async def _watched(
    chunks: AsyncGenerator[Sequence[Notification]], end: int, advanced: Callable[[int], None]
) -> AsyncIterator[Sequence[Notification]]:
    done = 0
    async with aclosing(chunks) as found:
        async for records in found:
            yield records
            if records:
                advanced(records[-1].position - done)
                done = records[-1].position
    advanced(max(0, end - done))
