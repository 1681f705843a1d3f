"""The load generator, a process of its own: a job as JSON on its standard input, its result on its output.

Before the load it makes what the orders need. Then it places orders and reports how each ended and after how long.
Afterwards it checks the totals.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final, Literal

import msgspec
import uvloop
from msgspec import Struct, field

from bench.answers import Taken
from bench.client import Answer, Broken, closed_loop, send
from bench.flood import Flood, Flooded
from bench.wares import Request, Total, Wares
from infra.local.services import ROOT
from infra.tuning import raise_open_file_limit

CLIENTS: Final = 64
"""Connections for requests that are not measured."""
SETTLE_S: Final = 2.0
"""How long totals may differ: a refused order is answered before all of its steps are undone."""
TELL: Final = 5
"""Maximum number of errors that a job reports."""


class Job(Struct):
    """`open` a shop for the wares, `place` their orders from `first` up to `last`, `check` the totals, or `flood`.

    `rate`: orders a second in an open loop; null: a closed loop of `clients`. `may_refuse`: it is no mistake if orders
    are answered 503, or 202 because they will end later. `confirmed`: the numbers of the confirmed orders, if some may
    have ended differently. A `flood` sends orders of `lines` lines without coupons, for `seconds`, over as many
    connections as there are `clients`.
    """

    do: Literal["open", "place", "check", "flood"]
    urls: Mapping[str, str]
    wares: Wares
    first: int = 0
    last: int = 0
    clients: int = CLIENTS
    rate: float | None = None
    may_refuse: bool = False
    confirmed: list[int] | None = None
    lines: int = 1
    seconds: float = 0.0


class Done(Struct):
    """The result of a job.

    `latencies`: in seconds, of each order. `at`: when its answer came, in seconds after `began` (since 1970). Both
    are in the order of the answers. `ends`: how many orders ended in each way. `refused`: the numbers of
    those answered 503. `wrong`: unexpected results. `flooded`: the results of a flood.
    """

    seconds: float = 0.0
    began: float = 0.0
    latencies: list[float] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    flooded: Flooded | None = None


class LoadFailed(Exception):
    """The load could not be put on the system, or the system's results are wrong."""


def run(job: Job) -> Done:
    """Run the job in a process of its own. Raises LoadFailed, also for wrong results."""
    process = subprocess.run(
        [sys.executable, "-m", "bench.load"], input=msgspec.json.encode(job), capture_output=True, cwd=ROOT, check=False
    )
    if process.returncode != 0:
        said = process.stderr.decode().strip().splitlines()
        raise LoadFailed(said[-1] if said else f"the load generator ended with {process.returncode}")
    try:
        done = msgspec.json.decode(process.stdout, type=Done)
    except msgspec.DecodeError as error:
        raise LoadFailed(f"the load generator ended without its result: {process.stderr.decode().strip()}") from error
    if done.wrong:
        raise LoadFailed("; ".join(done.wrong))
    return done


# In the process -------------------------------------------------------------------------------------------------------


async def work(job: Job) -> Done:
    """Do the job in this process. Raises Broken."""
    match job.do:
        case "open":
            return await _open(job)
        case "place":
            return await _place(job)
        case "check":
            return await _check(job)
        case "flood":
            return await _flood(job)


async def _open(job: Job) -> Done:
    requests = list(job.wares.opening())
    answers = await _ask(job, requests)
    refused = [
        f"{request.path} {request.body}: {answer.status} {answer.body.decode(errors='replace')}"
        for request, answer in zip(requests, answers, strict=True)
        if answer.status not in (200, 201)
    ]
    return Done(wrong=some(refused))


async def _place(job: Job) -> Done:
    requests = [job.wares.placing(number).encode() for number in range(job.first, job.last)]
    taken, began = Taken(), time.time()
    seconds = await send(job.urls["order"], requests, taken.take, clients=job.clients, rate=job.rate)
    refused, wrong = [], []
    for index, came in taken.each():
        number = job.first + index
        if came.startswith("503"):
            refused.append(number)
        if came != (wanted := job.wares.ordered(number).end) and not (job.may_refuse and came[:3] in ("503", "202")):
            wrong.append(f"order {number} ended as {came}, not as {wanted}")
    latencies, at = taken.after.tolist(), taken.at.tolist()
    return Done(seconds, began, latencies, at, taken.ends(), refused, some(wrong))


async def _check(job: Job) -> Done:
    until, totals = time.monotonic() + SETTLE_S, list(job.wares.totals(job.confirmed))
    while True:
        answers = await _ask(job, [total.request for total in totals])
        wrong = [pair for pair in zip(totals, answers, strict=True) if not _is_so(*pair)]
        if not wrong or time.monotonic() > until:
            break
        totals = [total for total, _ in wrong]
    return Done(
        wrong=some(
            [
                f"{total.request.path}: {total.field} is not {total.value}: {answer.body.decode(errors='replace')}"
                for total, answer in wrong
            ]
        )
    )


async def _flood(job: Job) -> Done:
    flood = Flood(job.urls["order"], job.wares.flooding(job.lines), job.clients)
    return Done(flooded=await flood.run(job.rate, job.seconds))


async def _ask(job: Job, requests: Sequence[Request]) -> list[Answer]:
    """Send the requests service by service. Returns the answers in the order of the requests, grouped by service."""
    answers: list[Answer] = []
    for service, some in groupby(requests, lambda request: request.service):
        encoded = [request.encode() for request in some]
        answers += (await closed_loop(job.urls[service], encoded, job.clients)).answers
    return answers


def _is_so(total: Total, answer: Answer) -> bool:
    if answer.status != 200:
        return False
    value = msgspec.json.decode(answer.body, type=dict[str, object])[total.field]
    return (value is not None) == total.value if isinstance(total.value, bool) else value == total.value


def some(wrong: Sequence[str], most: int = TELL) -> list[str]:
    """The first `most` of them, and how many more there are."""
    more = len(wrong) - most
    return [*wrong[:most], *([f"and {more:,} more"] if more > 0 else [])]


def main() -> int:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    raise_open_file_limit()
    try:
        done = uvloop.run(work(job))
    except (Broken, OSError) as error:
        sys.stderr.write(f"{job.do}: {error}\n")
        return 1
    # Not sys.stdout: with PYTHONUNBUFFERED it writes once, and a signal may cut that short.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(msgspec.json.encode(done))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
