"""Makes or updates durable consumers of the stream EVENTS, and resets each of them when a session begins."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import structlog
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    ConsumerInfo,
    DeliverPolicy,
)
from nats.js.errors import NotFoundError

from infra.broker.streams import EVENTS

logger = structlog.get_logger()

MAX_ACK_PENDING: Final = 1_024
"""At most this many deliveries of a service's consumer are unacknowledged at a time; then the broker waits."""

VIEW_MAX_ACK_PENDING: Final = 8 * MAX_ACK_PENDING
"""The limit of a read model's consumer: while the read model applies one chunk, the next ones are on their way."""

ACK_WAIT_S: Final = 10.0
"""After this long without an acknowledgement the broker repeats a delivery. A new session does not wait for that: it
resets the consumer."""


def consumer_config(
    name: str, hears: Collection[str], max_ack_pending: int, ack_wait_s: float = ACK_WAIT_S
) -> ConsumerConfig:
    """Return the configuration of a durable consumer that hears the facts with these names; none: every message.

    Nothing is sent to the broker.
    """
    return ConsumerConfig(
        durable_name=name,
        description=f"What {name} hears",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.ALL,
        ack_wait=ack_wait_s,
        max_deliver=-1,
        max_ack_pending=max_ack_pending,
        filter_subjects=sorted(f"{name}.*" for name in hears),
    )


async def _no_other_session() -> None:
    pass


async def ensure_consumer(
    js: JetStreamContext,
    service: str,
    hears: Collection[str],
    last_sequence: int,
    truncated_after: int | None = None,
    *,
    acknowledged: int | None = None,
    take_over: Callable[[], Awaitable[None]] = _no_other_session,
    max_ack_pending: int = MAX_ACK_PENDING,
    ack_wait_s: float = ACK_WAIT_S,
) -> int:
    """Make or update the service's durable consumer, and reset it: it delivers all unacknowledged messages at once.

    `hears` are fact names; `last_sequence` is the stream's. After the sequence `truncated_after`, if given, the stream
    may have other messages than those received. `take_over` is called right before the reset. Redelivering is always
    safe, skipping never is. So a consumer that has acknowledged more than a truncated stream has goes back to the
    truncation, or to the stream's end. A consumer whose filter changed, or that was missing, begins at the stream's
    beginning.

    `acknowledged`: up to which sequence this process has acknowledged all; None: nothing is known yet. A power cut may
    give the broker the state back that the consumer had before it went back. So it begins
    right after that sequence at the latest. Returns the sequence after which it delivers. Raises the client's errors.
    """
    wanted = consumer_config(service, hears, max_ack_pending, ack_wait_s)
    try:
        info = await js.consumer_info(EVENTS, service)
    except NotFoundError:
        logger.info("creating consumer", consumer=service, hears=sorted(hears))
        await js.add_consumer(EVENTS, wanted)
        await take_over()
        # After a power cut it may not be as new as it looks: it inherits the state files of the consumer that was lost.
        await js.reset_consumer(EVENTS, service, 1)
        return 0
    restart_from = _restart_from(info, wanted, last_sequence, truncated_after, acknowledged)
    await js.add_consumer(EVENTS, wanted)  # updates what may be updated
    await take_over()
    # Messages that were delivered to a session that is gone would wait for ack_wait; a reset delivers them now.
    await js.reset_consumer(EVENTS, service, restart_from)
    return _floor(info) if restart_from is None else restart_from - 1


def _floor(info: ConsumerInfo) -> int:
    return (info.ack_floor.stream_seq or 0) if info.ack_floor is not None else 0


def _restart_from(
    info: ConsumerInfo,
    wanted: ConsumerConfig,
    last_sequence: int,
    truncated_after: int | None,
    acknowledged: int | None,
) -> int | None:
    """Return the sequence from which the consumer must deliver, and log why.

    None: it continues after its last acknowledged message.
    """
    service = wanted.durable_name
    if _filters(info.config) != _filters(wanted):
        logger.warning("the consumer's filter changed: it receives everything from the beginning", consumer=service)
        return 1
    floor = _floor(info)
    known = floor if acknowledged is None else min(floor, acknowledged)
    if truncated_after is not None:
        logger.warning("the stream was truncated: its new tail is received", consumer=service, after=truncated_after)
        # Before the truncation, too, a message may be unacknowledged: its decision waits for another attempt.
        return min(truncated_after, known) + 1
    if known > last_sequence:
        logger.warning(
            "the stream was truncated: the consumer goes back to its end",
            consumer=service,
            acknowledged=known,
            stream_ends_at=last_sequence,
        )
        return last_sequence + 1
    if known < floor:
        logger.warning(
            "the broker has more acknowledged than this service: the consumer goes back",
            consumer=service,
            acknowledged=known,
            broker_has=floor,
        )
        return known + 1
    return None


async def ensure_consumer_at(
    js: JetStreamContext,
    name: str,
    hears: Collection[str],
    begin_at: int,
    *,
    take_over: Callable[[], Awaitable[None]] = _no_other_session,
) -> None:
    """Make or update a durable consumer, and reset it: it delivers from the sequence `begin_at` on, that one included.

    It does so even if it has delivered these messages before. `hears` are fact names; none: every message. `take_over`
    is called right before the reset. Raises the client's errors.
    """
    config = consumer_config(name, hears, VIEW_MAX_ACK_PENDING)
    await js.add_consumer(EVENTS, config)  # makes it, or updates what may be updated
    await take_over()
    await js.reset_consumer(EVENTS, name, begin_at)


def _filters(config: ConsumerConfig) -> Sequence[str]:
    return sorted(config.filter_subjects or ([config.filter_subject] if config.filter_subject else []))
