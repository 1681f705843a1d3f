"""Asks the services for their numbers, once for all viewers: every second while one looks, every five otherwise."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import structlog

from infra.aio import wait
from infra.timestamps import now
from ops.status.figures import Figures, ServiceFigures, figures, service_figures
from ops.status.health import Health, judge
from ops.status.seen import Look, Samples

logger = structlog.get_logger()

WATCHED_S: Final = 1.0
AT_REST_S: Final = 5.0
WINDOW_S: Final = 10.0
"""Rates and durations of a snapshot are those of about so many seconds, of fewer at first."""
POINT_S: Final = 5.0
"""Between two points of a plot; in between, its figures are those of this time."""
POINTS: Final = 180
"""Points that are kept: those of a quarter of an hour."""
LATELY_S: Final = 300.0
"""Rates over minutes are those of about so many seconds; of them a look is kept every KEPT_EVERY_S."""
KEPT_EVERY_S: Final = 30.0
FRESH_S: Final = 1.0
RECORDED: Final = "saga_facts_recorded_total"
STEPS_TAKEN: Final = "saga_step_duration_seconds_bucket"


class Point(NamedTuple):
    """The figures of about POINT_S seconds, which ended `at` an instant (UTC). None: order_svc did not tell them."""

    at: datetime
    figures: Figures | None


class Snapshot(NamedTuple):
    """All services as they were seen `at` an instant (UTC). `number` counts the snapshots from 1.

    `look` is the newest look, `before` that about WINDOW_S (10 s) earlier, or the first look if none is so old.
    `figures` and `health` are those of the time between both; in snapshot 1, `before` is `look`.
    `active`: by fact, the last look (its `at`) that found that one was recorded since the look before; a fact is
    missing if no look did. Nothing is found between two looks if one of them has no numbers of the fact's service.
    `usual`: by service, the last numbers in which it had taken a step: it may be away now, or have begun anew.
    """

    number: int
    at: datetime
    before: Look
    look: Look
    figures: Figures
    health: Health
    services: Sequence[ServiceFigures]
    points: Sequence[Point]
    active: Mapping[str, float] = {}
    usual: Mapping[str, Samples] = {}


class Poller:
    """Keeps the newest Snapshot, and hands it to all that wait for one. `run` does the asking."""

    def __init__(self, ask: Callable[[], Awaitable[Look]], clock: Callable[[], datetime] = now) -> None:
        """`ask` looks at all services once, as `ops.status.seen.look` does."""
        self._ask = ask
        self._clock = clock
        self._viewers = 0
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._looks: deque[Look] = deque()
        self._kept: deque[Look] = deque()
        self._points: deque[Point] = deque(maxlen=POINTS)
        self._last_point: Look | None = None
        self._active: dict[str, float] = {}
        self._usual: dict[str, Samples] = {}
        self.latest: Snapshot | None = None
        self.closing = asyncio.Event()

    async def run(self) -> None:
        """Look at the services, and make a snapshot of each look, until `closing` is set.

        If either raises, that is logged, and there is no snapshot of this look.
        """
        while not self.closing.is_set():
            self._wanted.clear()
            try:
                self._take(await self._ask())
            except Exception as error:
                logger.error("the services could not be judged", exc_info=error)  # the numbers grow old, and say so
            await wait(self._wanted, WATCHED_S if self._viewers else AT_REST_S)

    def close(self) -> None:
        """Set `closing`: end `run`, and all that waits for `closing` or a snapshot; `after` then returns None."""
        self.closing.set()
        self._wanted.set()
        self._changed.set()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Count a viewer within the block; if there was no other, numbers are asked for at once."""
        self._viewers += 1
        if self._viewers == 1:
            self._wanted.set()
        try:
            yield
        finally:
            self._viewers -= 1

    def recent(self) -> Figures | None:
        """Return the figures of about the last LATELY_S (300 s), or since the first look.

        None: there were no two looks in that time.
        """
        if self.latest is None or not self._kept or self._kept[0] is self.latest.look:
            return None
        return figures(self._kept[0], self.latest.look)

    async def after(self, number: int, most_s: float | None = None) -> Snapshot | None:
        """Wait for a snapshot after the one with this number, at most `most_s` seconds; then return the latest one.

        `most_s` None: wait without a limit. Returns None if there is no snapshot yet, or the poller is closing.
        """
        loop = asyncio.get_running_loop()
        until = None if most_s is None else loop.time() + most_s
        while not self.closing.is_set() and (self.latest is None or self.latest.number <= number):
            left = None if until is None else until - loop.time()
            if left is not None and left <= 0:
                break
            await wait(self._changed, left)
        return None if self.closing.is_set() else self.latest

    async def fresh(self, most_s: float) -> Snapshot | None:
        """Return the latest snapshot if it is at most FRESH_S (1 s) old.

        Otherwise have the services asked at once, wait at most `most_s` seconds for a newer snapshot, and return what
        `after` returns: after that time the latest one, however old.
        """
        latest = self.latest
        if latest is not None and (self._clock() - latest.at).total_seconds() <= FRESH_S:
            return latest
        self._wanted.set()
        return await self.after(latest.number if latest else 0, most_s)

    def _take(self, look: Look) -> None:
        """Make the snapshot of a look. If that raises, the look is forgotten."""
        looks = deque([*self._looks, look])
        while len(looks) > 2 and look.at - looks[1].at >= WINDOW_S:
            looks.popleft()
        before, at = looks[0], self._clock()
        seen = figures(before, look)
        health, services = judge(before, look, seen), service_figures(before, look)
        self._add_point(look, at)
        if self._looks:
            self._active |= dict.fromkeys(_recorded(self._looks[-1], look), look.at)
        self._usual |= {
            one.service.name: one.samples for one in look.services if one.samples.total(STEPS_TAKEN, le="+Inf")
        }
        self._looks = looks
        self._keep(look)
        self.latest = Snapshot(
            (self.latest.number if self.latest else 0) + 1,
            at,
            before,
            look,
            seen,
            health,
            services,
            tuple(self._points),
            dict(self._active),
            dict(self._usual),
        )
        self._changed.set()
        self._changed = asyncio.Event()

    def _keep(self, look: Look) -> None:
        if not self._kept or look.at - self._kept[-1].at >= KEPT_EVERY_S:
            self._kept.append(look)
        while look.at - self._kept[0].at > LATELY_S:
            self._kept.popleft()

    def _add_point(self, look: Look, at: datetime) -> None:
        last = self._last_point
        if last is not None and look.at - last.at < POINT_S * 0.9:
            return
        if last is not None:
            seen = figures(last, look)
            self._points.append(Point(at, seen if seen.known else None))
        self._last_point = look


def _recorded(before: Look, now: Look) -> Iterator[str]:
    """Yield the name of each fact of which at least one was recorded between two looks, by the services' counters."""
    earlier = {seen.service.name: seen.samples for seen in before.services}
    for seen in now.services:
        old = earlier.get(seen.service.name, Samples())
        for one in seen.samples.of(RECORDED):
            fact = one.labels.get("fact", "")
            if old.of(one.name) and one.value not in (0, old.total(one.name, fact=fact)):
                yield fact
