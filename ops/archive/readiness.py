"""Says why a generation cannot be archived yet: who has not heard all of it, and what is still open in it."""

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nats.js.api import ConsumerInfo, StreamInfo

from infra.broker.consumers import all_consumers, consumer_names
from infra.broker.numbering import generation_of, number_of
from infra.consuming import stored_dead_letters
from infra.consuming.dead_letter import PREFIX
from infra.local.services import service_names
from infra.settings import load
from ops.archive.open_orders import open_orders
from ops.progress import Watch
from ops.reading import Stream
from ops.stores import RecordedFacts

SHOWN = 3  # ids that a reason names


class ListenerConsumers(NamedTuple):
    """A listener: a service, or a read model of the stream, with the service that it belongs to.

    `consumers`: name of a consumer → the name of the fact it hears; None: it hears every message.
    """

    name: str
    service: str
    consumers: Mapping[str, str | None]


def listeners(env: Mapping[str, str]) -> Iterator[ListenerConsumers]:
    """Import all services; yield the listeners of this checkout: each service, then its read models of the stream.

    Raises SettingsError.
    """
    for name in service_names():
        service = pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE")
        yield ListenerConsumers(name, name, consumer_names(name, service.hears) if service.hears else {})
        for projection in service.stream_views(load(service.settings, name, service.port, env)):
            view = f"{name}-{projection.name}"
            yield ListenerConsumers(view, name, consumer_names(view, projection.topics))


async def why_not(
    heard_by: Sequence[ListenerConsumers], stream: Stream, info: StreamInfo, log: RecordedFacts, watch: Watch
) -> list[str]:
    """Return the reasons why this generation has to stay, each with the next step; empty if it can be archived.

    All consumers of `heard_by` must exist, no consumer of the generation may have messages to go, and no dead letter
    may be of it. Of one that is not sealed, that is the only reason returned. Open orders are looked for only if there
    is no other. `log` is order_svc's. Raises the errors of reading logs, archive and stream.
    """
    name = str(info.config.name)
    if not info.config.sealed:
        return [f"{name} is not sealed yet: the keeper does that once nothing comes. Does it run (just stream keeper)?"]
    reasons = [*await _unheard(heard_by, stream, name), *await _dead_letters(stream, name)]
    return reasons or await _open_orders(stream, info, log, watch)


async def _unheard(heard_by: Sequence[ListenerConsumers], stream: Stream, name: str) -> list[str]:
    found = {one.name: one for one in await all_consumers(stream.js, name)}
    reasons = [
        f"{listener.name} has never heard {name}: start {listener.service}_svc, and wait until it has"
        for listener in heard_by
        if not found.keys() >= listener.consumers.keys()
    ]
    return reasons + [_lags(name, one, unread) for one in found.values() if (unread := _unread(one))]


def _unread(consumer: ConsumerInfo) -> int:
    return (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)


def _lags(stream: str, consumer: ConsumerInfo, unread: int) -> str:
    if not consumer.config.durable_name:
        return f"somebody reads {stream} now, with {unread:,} messages to go: wait until that has ended"
    return (
        f"the consumer {consumer.name} of {stream} has {unread:,} messages to go: start whose it is, and wait; "
        f"if nobody's, delete it (nats consumer rm {stream} {consumer.name})"
    )


async def _dead_letters(stream: Stream, name: str) -> list[str]:
    number = number_of(name)
    kept = [
        str(letter.sequence)
        async for letter in stored_dead_letters.read(stream.nc, f"{PREFIX}.>", whole=False)
        if generation_of(letter.origin.sequence) == number
    ]
    if not kept:
        return []
    return [f"dead letters are of messages in {name}: {_some(kept)}. Redrive or drop them (just dlq redrive {kept[0]})"]


async def _open_orders(stream: Stream, info: StreamInfo, log: RecordedFacts, watch: Watch) -> list[str]:
    orders = await open_orders(stream, info, log, watch)
    if not orders:
        return []
    return [
        f"orders of {info.config.name} have not ended, or are canceled and not compensated: {_some(orders)}. They do "
        f"by themselves, unless a service or a dead letter stops them (just trace {orders[0]})"
    ]


def _some(ids: list[str]) -> str:
    more = len(ids) - SHOWN
    return ", ".join(ids[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
