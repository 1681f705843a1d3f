"""The facts of one order for its page; all viewers together cause one reading in KEPT_S (0.2 s) at most."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from contracts.fact import DECODE_ERRORS
from contracts.spans import ACCEPTED
from infra.broker.stored import StoredMessage
from ops.errors import Unreachable
from ops.seen_facts import SeenFact, causal, seen_fact
from ops.trace import OF_ORDER

KEPT_S: Final = 0.2
"""For so long, at most, what was read of an order is given again."""
MOST_KEPT: Final = 256


class KnownFacts(NamedTuple):
    """The facts of one order, each once, in the order of `causal`; none if neither stream nor archive has one.

    `trouble`: why the stream or the archive cannot be read now, in words; empty: both were read as far as needed. With
    a `trouble`, `facts` are those of the last reading, followed by those that the services' logs have besides.
    """

    facts: Sequence[SeenFact]
    trouble: str = ""


Latest = Callable[[Sequence[str], str], Awaitable[list[StoredMessage]]]
"""Reads the last message of each subject, as `StreamReader.latest` does."""

InLogs = Callable[[str], Awaitable[list[SeenFact]]]
"""Reads an order's facts from the services' logs, as `facts_in_logs` does."""


class OrderReader:
    """Reads the facts of orders. What was read of an order is returned again for KEPT_S (0.2 s)."""

    def __init__(self, latest: Latest, in_logs: InLogs, more_names: Callable[[], Sequence[str]] = tuple) -> None:
        """`more_names` returns names of facts of newer code, which are read, too."""
        self._latest = latest
        self._in_logs = in_logs
        self._more_names = more_names
        self._kept: dict[str, tuple[float, KnownFacts]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def facts(self, order_id: str) -> KnownFacts:
        """Return the facts of this order from stream and archive; if one of both cannot be read, see KnownFacts.

        Messages that `seen_fact` cannot decode are left out. Raises Unreachable if stream or archive cannot be read, no
        fact was read before, and no service's log has one.
        """
        clock = asyncio.get_running_loop().time
        async with self._locks.setdefault(order_id, asyncio.Lock()):
            read_at, found = self._kept.get(order_id, (float("-inf"), KnownFacts(())))
            if clock() - read_at > KEPT_S:
                found = await self._read(order_id, found.facts)
                self._kept[order_id] = clock(), found
        if len(self._kept) > MOST_KEPT:
            self._kept.clear()
            self._locks.clear()
        return found

    async def _read(self, order_id: str, earlier: Sequence[SeenFact]) -> KnownFacts:
        names = (*OF_ORDER, *self._more_names())
        try:
            messages = await self._latest([f"{name}.{order_id}" for name in names], f"{ACCEPTED}.{order_id}")
        except Unreachable as error:
            seen = {fact.fact_id for fact in earlier}
            logged = [fact for fact in await self._in_logs(order_id) if fact.fact_id not in seen]
            if not (earlier or logged):
                raise
            return KnownFacts([*earlier, *logged], str(error))
        found: list[SeenFact] = []
        for message in messages:
            with suppress(*DECODE_ERRORS):
                found.append(seen_fact(message))
        return KnownFacts(causal(found))
