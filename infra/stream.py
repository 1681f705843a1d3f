"""The one stream, EVENTS, and each service's durable consumer of it: made where missing, compared where present."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

import structlog
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import APIError, NotFoundError

from contracts.wire import FACTS, said_by
from infra.settings import Settings

log = structlog.get_logger()

EVENTS: Final = "EVENTS"

MAX_FACT_BYTES: Final = 64 << 10
"""An order of 100 lines with the longest ids is about 14 KiB."""

MAX_ACK_PENDING: Final = 1_024
"""Deliveries of a consumer that wait for their acknowledgement at a time."""

VIEW_MAX_ACK_PENDING: Final = 8 * MAX_ACK_PENDING
"""Of a view's consumer: while one chunk is applied, the next ones are on their way."""

ACK_WAIT_S: Final = 10.0
"""After this long without one a delivery is repeated. A service that restarts does not wait: it resets its consumer."""


INVALID_JSON: Final = 10_025
"""What nats-server 2.12 says to a setting that it does not know; older ones leave it out."""

TOO_OLD: Final = f"{EVENTS} cannot be set to take batches (allow_batched): that needs nats-server 2.14 or newer"


class StreamMisconfigured(Exception):
    """A stream is not as the guarantees and the relay need it, and cannot be made so; the message says what differs."""


def stream_config(settings: Settings) -> StreamConfig:
    """No fact is ever dropped, deleted or purged: a full stream refuses new ones, and the services' logs keep them."""
    return StreamConfig(
        name=EVENTS,
        description="Every fact of every service, for ever",
        subjects=sorted({f"{said_by(name)}.>" for name in FACTS}),
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_bytes=settings.events_max_bytes,
        max_msgs=-1,
        max_msgs_per_subject=-1,
        max_msg_size=MAX_FACT_BYTES,
        max_age=0,
        duplicate_window=settings.duplicate_window_s,
        no_ack=False,
        deny_delete=True,
        deny_purge=True,
        allow_direct=True,
        allow_batched=True,
        num_replicas=settings.events_replicas,
    )


KEEPS: Final = (
    "storage",
    "retention",
    "discard",
    "max_age",
    "max_msgs",
    "max_msgs_per_subject",
    "no_ack",
    "deny_delete",
)
"""Settings on which it depends whether a message can go from a stream by itself, or be deleted."""

REQUIRED: Final = (*KEEPS, "deny_purge", "allow_direct")


async def ensure_stream(js: JetStreamContext, settings: Settings) -> StreamInfo:
    """EVENTS, made if missing, brought up to date if older. Raises StreamMisconfigured, or the client's errors."""
    wanted = stream_config(settings)
    try:
        info = await js.stream_info(EVENTS)
    except NotFoundError:
        log.info("creating stream", stream=EVENTS, max_bytes=wanted.max_bytes)
        return await _batched(js.add_stream(wanted))
    found = info.config
    compare(found, wanted, REQUIRED)
    missing = set(wanted.subjects or ()) - set(found.subjects or ())
    if missing or not found.allow_batched:
        log.info("updating the stream", stream=EVENTS, new_subjects=sorted(missing), batches="allowed")
        found.subjects = sorted({*(found.subjects or ()), *missing})
        found.allow_batched = True
        return await _batched(js.update_stream(found))
    return info


def compare(found: StreamConfig, wanted: StreamConfig, settings: Collection[str]) -> None:
    """Raises StreamMisconfigured if an existing stream is otherwise than wanted in any of these settings."""
    differing = {
        name: (getattr(found, name), getattr(wanted, name))
        for name in settings
        if (getattr(found, name) or 0) != (getattr(wanted, name) or 0)
    }
    if differing:
        raise StreamMisconfigured(
            f"{wanted.name} exists with other settings than the guarantees need: "
            + "; ".join(
                f"{name} is {has}, must be {getattr(must, 'value', must)}" for name, (has, must) in differing.items()
            )
        )


async def _batched(made: Awaitable[StreamInfo]) -> StreamInfo:
    """The stream, once it takes batches. Raises StreamMisconfigured if the broker knows no such setting."""
    try:
        info = await made
    except APIError as error:
        if error.err_code != INVALID_JSON:
            raise
        raise StreamMisconfigured(TOO_OLD) from error
    if not info.config.allow_batched:
        raise StreamMisconfigured(TOO_OLD)
    return info


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
    lost_after: int | None = None,
    *,
    take_over: Callable[[], Awaitable[None]] = _nobody_else,
) -> None:
    """The service's durable consumer, ready to deliver at once whatever has not been acknowledged.

    `hears` are fact names; `last_sequence` is the stream's; behind `lost_after`, if given, other facts stand than were
    heard there; `take_over` comes right before the consumer is reset. Redelivering is always safe, skipping never is:
    a consumer ahead of a stream that lost its tail goes back to where it was lost, or to the stream's end, one whose
    filter changed to its beginning.
    """
    wanted = consumer_config(service, hears, MAX_ACK_PENDING)
    try:
        info = await js.consumer_info(EVENTS, service)
    except NotFoundError:
        log.info("creating consumer", consumer=service, hears=sorted(hears))
        await js.add_consumer(EVENTS, wanted)
        await take_over()
        # Not as new as it looks: what a power cut left of the state of one that it took away becomes this one's.
        await js.reset_consumer(EVENTS, service, 1)
        return
    restart_from: int | None = None
    if _filters(info.config) != _filters(wanted):
        log.warning("consumer hears other facts now: it hears all of them from the beginning", consumer=service)
        restart_from = 1
    elif lost_after is not None:
        log.warning("the stream lost its tail: what was written in its place is heard", after=lost_after)
        restart_from = lost_after + 1
    elif info.ack_floor is not None and (info.ack_floor.stream_seq or 0) > last_sequence:
        log.warning(
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


def is_full(info: StreamInfo) -> bool:
    """Whether the door should close: the last twentieth is kept for the orders that are under way."""
    limit: Any = info.config.max_bytes
    return limit is not None and limit > 0 and info.state.bytes > limit * 0.95
