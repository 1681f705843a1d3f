"""Durable consumers of the stream EVENTS: made where missing, updated and reset where present."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import structlog
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
)
from nats.js.errors import NotFoundError

from infra.broker.streams import EVENTS

logger = structlog.get_logger()

MAX_ACK_PENDING: Final = 1_024
"""Deliveries of a consumer that wait for their acknowledgement at a time."""

VIEW_MAX_ACK_PENDING: Final = 8 * MAX_ACK_PENDING
"""Of a view's consumer: while one chunk is applied, the next ones are on their way."""

ACK_WAIT_S: Final = 10.0
"""After this long without one a delivery is repeated. A service that restarts does not wait: it resets its consumer."""


def consumer_config(name: str, hears: Collection[str], max_ack_pending: int) -> ConsumerConfig:
    """A durable consumer of these facts."""
    return ConsumerConfig(
        durable_name=name,
        description=f"What {name} hears",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.ALL,
        ack_wait=ACK_WAIT_S,
        max_deliver=-1,
        max_ack_pending=max_ack_pending,
        filter_subjects=sorted(f"{name}.*" for name in hears),
    )


async def _nobody_else() -> None:
    pass


async def ensure_consumer(
    js: JetStreamContext,
    service: str,
    hears: Collection[str],
    last_sequence: int,
    truncated_after: int | None = None,
    *,
    take_over: Callable[[], Awaitable[None]] = _nobody_else,
) -> None:
    """The service's durable consumer, ready to deliver at once whatever has not been acknowledged.

    `hears` are fact names; `last_sequence` is the stream's; behind `truncated_after`, if given, other facts stand than
    were heard there; `take_over` comes right before the consumer is reset. Redelivering is always safe, skipping never
    is: a consumer ahead of a stream that lost its tail goes back to where it was lost, or to the stream's end;
    one whose filter changed goes back to its beginning.
    """
    wanted = consumer_config(service, hears, MAX_ACK_PENDING)
    try:
        info = await js.consumer_info(EVENTS, service)
    except NotFoundError:
        logger.info("creating consumer", consumer=service, hears=sorted(hears))
        await js.add_consumer(EVENTS, wanted)
        await take_over()
        # Not as new as it looks: what a power cut left of the state of one that it took away becomes this one's.
        await js.reset_consumer(EVENTS, service, 1)
        return
    restart_from: int | None = None
    if _filters(info.config) != _filters(wanted):
        logger.warning("consumer hears other facts now: it hears all of them from the beginning", consumer=service)
        restart_from = 1
    elif truncated_after is not None:
        logger.warning("the stream lost its tail: what was written in its place is heard", after=truncated_after)
        restart_from = truncated_after + 1
    elif info.ack_floor is not None and (info.ack_floor.stream_seq or 0) > last_sequence:
        logger.warning(
            "the stream lost its tail: the consumer goes back to its end",
            consumer=service,
            acknowledged=info.ack_floor.stream_seq,
            stream_ends_at=last_sequence,
        )
        restart_from = last_sequence + 1
    await js.add_consumer(EVENTS, wanted)  # updates what may be updated
    await take_over()
    # Whatever was delivered to a session that is gone would wait for ack_wait; a reset delivers it now.
    await js.reset_consumer(EVENTS, service, restart_from)


async def ensure_consumer_at(
    js: JetStreamContext,
    name: str,
    hears: Collection[str],
    begin_at: int,
    *,
    take_over: Callable[[], Awaitable[None]] = _nobody_else,
) -> None:
    """A durable consumer that delivers what stands at this sequence and behind, whatever it has delivered before."""
    config = consumer_config(name, hears, VIEW_MAX_ACK_PENDING)
    await js.add_consumer(EVENTS, config)  # makes it, or updates what may be updated
    await take_over()
    await js.reset_consumer(EVENTS, name, begin_at)


def _filters(config: ConsumerConfig) -> Sequence[str]:
    return sorted(config.filter_subjects or ([config.filter_subject] if config.filter_subject else []))
