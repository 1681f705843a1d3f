"""Reads one fact, of any stream of a service, from that service's log on this machine, without the broker."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from contracts.fact import DECODE_ERRORS
from infra.core.decider import category
from ops import stores
from ops.at import kinds
from ops.details import fact_body


class LoggedFact(NamedTuple):
    """A fact in the log of its `service` (without `_svc`). `order_id`: the order that it names; empty: none.

    If this code cannot read the fact, `at` is None and `order_id` empty.
    """

    service: str
    position: int
    name: str
    at: datetime | None
    order_id: str


async def fact_in_log(env: Mapping[str, str], stream: str, version: int) -> LoggedFact | None:
    """Return the fact at this version of an aggregate's stream, from its service's log.

    None: no service has such a stream, or the stream has no such version. Raises Unreachable if the log cannot be
    read; SettingsError.
    """
    service = next((kind.service for kind in kinds().values() if kind.category == category(stream)), None)
    if service is None:
        return None
    async with stores.log(env, service) as log:
        for record in await log.find_all([(stream, version)]):
            try:
                body = fact_body(record.state)
            except DECODE_ERRORS:
                return LoggedFact(service, record.position, record.topic, None, "")
            return LoggedFact(service, record.position, record.topic, body.at, body.order_id or "")
    return None
