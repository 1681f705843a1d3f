"""The one stream, EVENTS, and each service's durable consumer of it: made where missing, compared where present."""

from collections.abc import Awaitable, Collection
from typing import Any, Final

import structlog
from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import APIError, NotFoundError

from contracts.wire import FACTS, said_by
from infra.broker.errors import StreamMisconfigured
from infra.settings import Settings

logger = structlog.get_logger()

EVENTS: Final = "EVENTS"

MAX_FACT_BYTES: Final = 64 << 10
"""An order of 100 lines with the longest ids is about 14 KiB."""


INVALID_JSON: Final = 10_025
"""What nats-server 2.12 says to a setting that it does not know; older ones leave it out."""

TOO_OLD: Final = f"{EVENTS} cannot be set to take batches (allow_batched): that needs nats-server 2.14 or newer"


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
        logger.info("creating stream", stream=EVENTS, max_bytes=wanted.max_bytes)
        return await _batched(js.add_stream(wanted))
    found = info.config
    compare(found, wanted, REQUIRED)
    missing = set(wanted.subjects or ()) - set(found.subjects or ())
    if missing or not found.allow_batched:
        logger.info("updating the stream", stream=EVENTS, new_subjects=sorted(missing), batches="allowed")
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


def is_full(info: StreamInfo) -> bool:
    """Whether the door should close: the last twentieth is kept for the orders that are under way."""
    limit: Any = info.config.max_bytes
    return limit is not None and limit > 0 and info.state.bytes > limit * 0.95
