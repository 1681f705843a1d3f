"""The facts of one order as a page shows them, read at most every KEPT_S for all that look at it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from contracts.fact import DECODE_ERRORS, Fact
from contracts.origin import number
from contracts.spans import ACCEPTED
from contracts.wire import MSG_ID, POSITION, RESENT, said_by
from infra.broker.client import header
from infra.broker.stored import StoredMessage
from infra.timestamps import EPOCH
from ops.details import detail, fact_body, known
from ops.errors import Unreachable
from ops.trace import OF_ORDER

KEPT_S: Final = 0.2
"""For so long, at most, what was read of an order is given again."""
MOST_KEPT: Final = 256

_MSG_ID: Final = MSG_ID.encode()
_POSITION: Final = POSITION.encode()


class SeenFact(NamedTuple):
    """A fact of an order in the stream. `service` says it, `cause` is the id of the fact that it answers.

    `stored`: when the broker stored it. `fact`: None if this code cannot read it. `sequence` is 0 if it was read
    from its service's log: then its place in the stream is not known, and `stored` is when it was said.
    """

    sequence: int
    fact_id: str
    name: str
    service: str
    at: datetime
    stored: datetime
    cause: str | None
    fact: Fact | None
    headers: str
    position: int = 0
    """Its position in its service's log; 0: not known."""

    @property
    def detail(self) -> str:
        return "of newer code" if self.fact is None else detail(self.fact)

    @property
    def stream_version(self) -> tuple[str, int]:
        """Its stream in its service's log, and its version there."""
        stream, _, version = self.fact_id.rpartition("@")
        return stream, number(version)

    @property
    def place(self) -> str:
        """Its place among the order's facts: the category of its stream and its version there, such as `order@2`."""
        stream, version = self.stream_version
        return f"{stream.partition('-')[0]}@{version}"

    @property
    def resent(self) -> bool:
        """Whether the stream had lost it, so that `stored` says when it was published again."""
        return f"{RESENT}: " in self.headers

    @property
    def body(self) -> dict[str, Any]:
        """Its fields as this code knows them: what others have put into it beside them is left out."""
        return {} if self.fact is None else msgspec.to_builtins(self.fact)


def seen_fact(message: StoredMessage) -> SeenFact:
    """Return the fact in a message that a service published. Raises those of DECODE_ERRORS."""
    body = fact_body(message.body)
    return SeenFact(
        message.sequence,
        header(message.raw_headers, _MSG_ID),
        body.type,
        said_by(body.type),
        body.at,
        EPOCH + timedelta(microseconds=message.stored_us),
        body.cause,
        known(message.body),
        message.raw_headers.decode(errors="backslashreplace").replace("\r\n", "\n").strip(),
        number(header(message.raw_headers, _POSITION)),
    )


class KnownFacts(NamedTuple):
    """The facts of one order, each once, in the order of `causal`; none if stream and archive have none of it.

    `trouble`: why the stream cannot be read now, in words; then those that only the services' logs have come last.
    """

    facts: Sequence[SeenFact]
    trouble: str = ""


Latest = Callable[[Sequence[str], str], Awaitable[list[StoredMessage]]]
"""Reads the last message of each subject, as `StreamReader.latest` does."""

InLogs = Callable[[str], Awaitable[list[SeenFact]]]
"""Reads an order's facts from the services' logs, as `facts_in_logs` does."""


class OrderReader:
    """Reads the facts of orders, and may give again what it read within KEPT_S."""

    def __init__(self, latest: Latest, in_logs: InLogs, more_names: Callable[[], Sequence[str]] = tuple) -> None:
        """`more_names`: names of facts of newer code, which are read, too."""
        self._latest = latest
        self._in_logs = in_logs
        self._more_names = more_names
        self._kept: dict[str, tuple[float, KnownFacts]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def facts(self, order_id: str) -> KnownFacts:
        """Return the facts of this order in the order of `causal`; without the broker, those read last, then from logs.

        Raises Unreachable if the stream cannot be read and there are none of these.
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


def causal(facts: Sequence[SeenFact]) -> list[SeenFact]:
    """Return the facts in the order of the stream, those of logs by time, but each after its cause.

    Each comes after those before it in its own stream, too. So what was published again has its old place, and what the
    services' clocks say counts only between facts that do not follow from each other.
    """
    waiting = sorted(facts, key=lambda fact: (fact.sequence, fact.at, fact.fact_id))
    found: list[SeenFact] = []
    while waiting:
        following = next((fact for fact in waiting if not _follows(fact, waiting)), waiting[0])
        waiting.remove(following)
        found.append(following)
    return found


def _follows(fact: SeenFact, others: Sequence[SeenFact]) -> bool:
    """Return whether one of the others is the cause of the fact, or before it in its stream."""
    stream, version = fact.stream_version
    return any(
        other.fact_id == fact.cause or (other.stream_version[0] == stream and other.stream_version[1] < version)
        for other in others
    )
