"""Reads the facts of one order from the services' logs on this machine, for when the broker cannot be asked."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from contracts.fact import DECODE_ERRORS
from contracts.wire import fact_id, said_by
from infra.core.decider import category
from infra.store.records import Notification
from ops import stores
from ops.at import kinds
from ops.dashboard.facts import SeenFact, causal
from ops.details import FactBody, fact_body, known
from ops.errors import Unreachable


async def facts_in_logs(env: Mapping[str, str], order_id: str) -> list[SeenFact]:
    """Return what the services have recorded in the order's own streams, each fact after its cause.

    Their places in the stream are not known: `sequence` is 0, and `stored` is when they were said. A log that cannot be
    read is left out. Raises SettingsError.
    """
    services: dict[str, list[str]] = {}
    for kind in kinds().values():
        services.setdefault(kind.service, []).append(f"{kind.category}-{order_id}")
    logs = await asyncio.gather(*(_of_service(env, service, streams) for service, streams in services.items()))
    return causal([fact for facts in logs for fact in facts])


class LoggedFact(NamedTuple):
    """A fact in the log of its service. `order_id`: of the order by which it came about; empty without one."""

    service: str
    position: int
    name: str
    at: datetime
    order_id: str


async def fact_in_log(env: Mapping[str, str], stream: str, version: int) -> LoggedFact | None:
    """Return the fact with this place in a stream of a service; None if there is none.

    Raises Unreachable if the log of the service cannot be read, SettingsError.
    """
    service = next((kind.service for kind in kinds().values() if kind.category == category(stream)), None)
    if service is None:
        return None
    async with stores.log(env, service) as log:
        for record in await log.find_all([(stream, version)]):
            with suppress(*DECODE_ERRORS):
                body = fact_body(record.state)
                return LoggedFact(service, record.position, record.topic, body.at, body.order_id or "")
    return None


async def _of_service(env: Mapping[str, str], service: str, streams: Sequence[str]) -> list[SeenFact]:
    found: list[SeenFact] = []
    with suppress(Unreachable):
        async with stores.log(env, service) as log:
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
