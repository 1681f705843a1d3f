"""The facts of one order, from the stream's messages or from the services' logs, in the order of their causes."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from contracts.fact import DECODE_ERRORS, Fact
from contracts.origin import number
from contracts.wire import MSG_ID, POSITION, RESENT, fact_id, said_by
from infra.broker.client import header
from infra.broker.stored import StoredMessage
from infra.store.records import Notification
from infra.timestamps import EPOCH
from ops import stores
from ops.at import kinds
from ops.details import FactBody, detail, fact_body, known
from ops.errors import Unreachable
from ops.stores import ServiceLog

_MSG_ID: Final = MSG_ID.encode()
_POSITION: Final = POSITION.encode()


class SeenFact(NamedTuple):
    """A fact of an order, from the stream or from a log. `cause`: the id of the fact that it answers; None: a request.

    `service`: the service that said it, without `_svc`; `at`: when. `stored`: when the broker stored it. `fact` None:
    this code cannot read it. `sequence` 0: it was read from its service's log, so its place in the stream is not known,
    and `stored` equals `at`. `headers`: the message's, as text; from a log, a text that says the position.
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
        """The fact's stream in its service's log, and its version there."""
        stream, _, version = self.fact_id.rpartition("@")
        return stream, number(version)

    @property
    def place(self) -> str:
        """The fact's place among the order's facts: category of its stream and version there, such as `order@2`."""
        stream, version = self.stream_version
        return f"{stream.partition('-')[0]}@{version}"

    @property
    def resent(self) -> bool:
        """Whether the stream had lost the fact, so that `stored` says when it was published again."""
        return f"{RESENT}: " in self.headers

    @property
    def body(self) -> dict[str, Any]:
        """The fact's fields that this code knows, as plain values; empty if it cannot read the fact."""
        return {} if self.fact is None else msgspec.to_builtins(self.fact)


def seen_fact(message: StoredMessage) -> SeenFact:
    """Return the fact in a message that a service published. Raises one of DECODE_ERRORS if it has none."""
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


def causal(facts: Sequence[SeenFact]) -> list[SeenFact]:
    """Return the facts of logs by time, then those of EVENTS in its order, but each fact after its cause.

    Each comes after the facts with lower versions of its own stream, too. So a fact that was published again has its
    old place, and the services' clocks count only between facts that do not follow from each other.
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


async def facts_in_logs(env: Mapping[str, str], order_id: str) -> list[SeenFact]:
    """Return the order's facts that the services have recorded in the order's own streams, each after its cause.

    Their places in EVENTS are not known: `sequence` is 0, and `stored` is when they were said. A log that cannot be
    read is left out. Raises SettingsError.
    """
    services: dict[str, list[str]] = {}
    for kind in kinds().values():
        services.setdefault(kind.service, []).append(f"{kind.category}-{order_id}")
    logs = await asyncio.gather(*(_of_service(env, service, streams) for service, streams in services.items()))
    return causal([fact for facts in logs for fact in facts])


async def _of_service(env: Mapping[str, str], service: str, streams: Sequence[str]) -> list[SeenFact]:
    with suppress(Unreachable):
        async with stores.log(env, service) as log:
            return await logged_facts(log, streams)
    return []


async def logged_facts(log: ServiceLog, streams: Sequence[str]) -> list[SeenFact]:
    """Return the facts of an order's saga in these streams of the log, which are the order's own. Raises Unreachable.

    A record that FactBody cannot be decoded from is left out. If only the fact cannot be decoded, `fact` is None.
    """
    found: list[SeenFact] = []
    for stream in streams:
        for record in await log.select_stream(stream):
            with suppress(*DECODE_ERRORS):
                found += _of_order(record, fact_body(record.state), stream)
    return found


def _of_order(record: Notification, body: FactBody, stream: str) -> Iterator[SeenFact]:
    """Yield the fact of this record if it is of an order's saga: another thing may have the same id."""
    if body.order is None or body.order_id != stream.partition("-")[2]:
        return
    its_id = fact_id(record.originator_id, record.originator_version)
    place = f"position {record.position} of the log of {said_by(body.type)}_svc"
    service, fact = said_by(body.type), known(record.state)
    yield SeenFact(0, its_id, body.type, service, body.at, body.at, body.cause, fact, place, record.position)
