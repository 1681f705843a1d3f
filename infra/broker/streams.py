"""One generation of the stream: made if missing; an existing one gets only the subjects and `allow_batched` it lacks.

One whose other settings contradict the guarantees is refused, not changed.
"""

import contextlib
from collections.abc import Awaitable, Collection
from typing import Any, Final

import structlog
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo, SubjectTransform
from nats.js.errors import APIError, NotFoundError

from contracts.wire import FACTS, MAX_BYTES, said_by
from infra.broker.errors import StreamMisconfigured
from infra.broker.numbering import EVENTS, first_sequence, number_of, prefix, stream_name
from infra.settings import Settings

logger = structlog.get_logger()

MAX_FACT_BYTES: Final = MAX_BYTES
"""The limit of one message of EVENTS. The services record no larger fact."""

NAME_IN_USE: Final = 10_058
"""The error code for a stream that exists with another configuration: somebody made it just now."""

INVALID_JSON: Final = 10_025
"""The error code of nats-server 2.12 for an unknown setting. Older servers ignore the setting."""

TOO_OLD: Final = f"{EVENTS} cannot be set to accept batches (allow_batched): that needs nats-server 2.14 or newer"


def stream_config(settings: Settings, number: int = 0) -> StreamConfig:
    """Return the configuration that a generation should have: it lets no message expire, or be deleted or purged.

    A full stream refuses new facts, which stay in the services' logs.
    """
    later = number > 0
    return StreamConfig(
        name=stream_name(number),
        description="Every fact of every service, for ever" + (f": generation {number}" if later else ""),
        subjects=[f"{prefix(number)}>"] if later else sorted({f"{said_by(name)}.>" for name in FACTS}),
        subject_transform=SubjectTransform(f"{prefix(number)}>", ">") if later else None,
        first_seq=first_sequence(number) if later else None,
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
    "sealed",
    "subject_transform",
)
"""Names of the settings that decide whether a stream takes messages and keeps them as they are: whether they expire,
make room for others, or can be deleted."""

REQUIRED: Final = (*KEEPS, "deny_purge", "allow_direct")


async def ensure_stream(js: JetStreamContext, settings: Settings, number: int = 0) -> StreamInfo:
    """Make this generation if it is missing, or give it the subjects and `allow_batched` it lacks; return its info.

    Raises StreamMisconfigured as `check_stream` does, such as for a sealed one, and if the server is too old; the
    client's errors. Other settings of an existing stream, such as its size, stay as they are.
    """
    wanted = stream_config(settings, number)
    name = stream_name(number)
    try:
        info = await js.stream_info(name)
    except NotFoundError:
        logger.info("creating the stream", stream=name, max_bytes=wanted.max_bytes)
        with contextlib.suppress(_MadeMeanwhile):
            return await _batched(js.add_stream(wanted))
        info = await js.stream_info(name)
    found = info.config
    check_stream(found, settings)
    missing = set(wanted.subjects or ()) - set(found.subjects or ())
    if missing or not found.allow_batched:
        logger.info("updating the stream", stream=name, new_subjects=sorted(missing), allow_batched=True)
        found.subjects = sorted({*(found.subjects or ()), *missing})
        found.allow_batched = True
        return await _batched(js.update_stream(found))
    return info


def check_stream(found: StreamConfig, settings: Settings, *, sealed: bool = False) -> None:
    """Check a generation as it is now: an operator may edit it at any time. `sealed`: whether it may be sealed.

    Raises StreamMisconfigured if a setting in `REQUIRED`, or the first sequence of a generation after EVENTS, differs
    from `stream_config`, or if the generation refuses messages of MAX_FACT_BYTES.
    """
    number = number_of(str(found.name)) or 0
    required = [name for name in REQUIRED if not (sealed and name == "sealed")]
    compare(found, stream_config(settings, number), [*required, "first_seq"] if number else required)
    check_message_size(found, MAX_FACT_BYTES)


def largest_message(info: StreamInfo, max_payload: int) -> int:
    """Return the size in bytes of the largest message, headers included, that both server and stream take.

    `max_payload` is the server's limit. The limits may be changed while the system runs: `nats stream edit` with
    --max-msg-size, and `max_payload` in the server's configuration.
    """
    limit: Any = info.config.max_msg_size
    return min(max_payload, limit if limit is not None and limit > 0 else max_payload)


def compare(found: StreamConfig, wanted: StreamConfig, settings: Collection[str]) -> None:
    """Check an existing stream: raise StreamMisconfigured if it differs from the wanted one in any of these settings.

    `settings` are names of fields of StreamConfig. A missing value is the same as 0 or false.
    """
    differing = {
        name: (getattr(found, name), getattr(wanted, name))
        for name in settings
        if (getattr(found, name) or 0) != (getattr(wanted, name) or 0)
    }
    if differing:
        raise StreamMisconfigured(
            f"{wanted.name} exists with settings that the guarantees exclude: "
            + "; ".join(
                f"{name} is {has}, must be {getattr(must, 'value', must)}" for name, (has, must) in differing.items()
            )
            + f". Set it back: nats stream edit {wanted.name}"
        )


def check_message_size(found: StreamConfig, least: int) -> None:
    """Raise StreamMisconfigured if the stream refuses messages of `least` bytes."""
    if 0 < (found.max_msg_size or 0) < least:
        raise StreamMisconfigured(
            f"{found.name} takes messages of up to {found.max_msg_size} bytes, and there are some of {least}: "
            f"nats stream edit {found.name} --max-msg-size={least}"
        )


class _MadeMeanwhile(Exception):
    """Another process made the stream, with settings of its own, between the question and the request."""


async def _batched(made: Awaitable[StreamInfo]) -> StreamInfo:
    """Await the request that makes or updates the stream, and return the stream's info.

    Raises StreamMisconfigured if the server is too old for batches; _MadeMeanwhile; the client's errors.
    """
    try:
        info = await made
    except APIError as error:
        if error.err_code == NAME_IN_USE:
            raise _MadeMeanwhile from error
        if error.err_code != INVALID_JSON:
            raise
        raise StreamMisconfigured(TOO_OLD) from error
    if not info.config.allow_batched:
        raise StreamMisconfigured(TOO_OLD)
    return info


def is_full(info: StreamInfo) -> bool:
    """Whether more than 95 % of the stream's allowed bytes are used; false without a limit.

    New work should then be refused: the last 5 % are reserved for the facts of work in flight.
    """
    limit: Any = info.config.max_bytes
    return limit is not None and limit > 0 and info.state.bytes > limit * 0.95


def full(info: StreamInfo) -> str:
    """Return in words that the stream is full, and what an operator has to do. Call it if `is_full`."""
    name = info.config.name
    return (
        f"the stream {name} is full: make the next generation (just stream roll; just stream keeper does so in time), "
        f"or raise its limit, such as `nats stream edit {name} --max-bytes=16GB`, if the broker's disk has that room"
    )
