"""Makes, updates and resets durable consumers of the stream.

A service or read model, here a listener, has a consumer for each kind of fact that it hears, or one for all messages,
on each generation that the broker has.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import structlog
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    ConsumerInfo,
    DeliverPolicy,
)
from nats.js.errors import NotFoundError

from infra.broker.numbering import number_of

logger = structlog.get_logger()

MAX_ACK_PENDING: Final = 1_024
"""At most this many deliveries of a service's consumer are unacknowledged at a time; then the broker waits."""

VIEW_MAX_ACK_PENDING: Final = 8 * MAX_ACK_PENDING
"""The limit of a read model's consumer: while the read model applies one chunk, the next ones are on their way."""

ACK_WAIT_S: Final = 10.0
"""After this long without an acknowledgement the broker repeats a delivery. A new session does not wait for that: it
resets the consumer."""

SESSION: Final = "session"
"""The key in a consumer's metadata for the name of the session that made or updated the consumer last."""


LIST_LIMIT: Final = 256  # consumers in one answer of the server


def consumer_name(listener: str, fact: str | None) -> str:
    """Return the name of the durable consumer by which a service or read model hears the facts with this name.

    None: every message.
    """
    return listener if fact is None else f"{listener}-hears-{fact.replace('.', '-')}"


def consumer_names(listener: str, hears: Collection[str]) -> dict[str, str | None]:
    """Return a listener's consumers: name → the fact name it hears. If `hears` is empty: one, which hears all (None).

    A consumer has at most one filter subject: with several, the broker would stall at each full block of messages.
    """
    return {consumer_name(listener, fact): fact for fact in sorted(hears) or (None,)}


def consumer_config(
    name: str, fact: str | None, max_ack_pending: int, ack_wait_s: float = ACK_WAIT_S, *, session: str = ""
) -> ConsumerConfig:
    """Return the configuration of a durable consumer that hears the facts with this name; None: every message.

    `session` is the name of the session that resets it (`session_of`). Nothing is sent to the broker.
    """
    return ConsumerConfig(
        durable_name=name,
        description=f"hears {fact or 'every message'}",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.ALL,
        ack_wait=ack_wait_s,
        max_deliver=-1,
        max_ack_pending=max_ack_pending,
        filter_subject=None if fact is None else f"{fact}.*",
        metadata={SESSION: session},
    )


def session_of(info: ConsumerInfo) -> str:
    """Return the name of the session that last made or updated the consumer (a copy: its original); empty if none."""
    return (info.config.metadata or {}).get(SESSION, "")


class ConsumerPlace(NamedTuple):
    """A durable consumer: the stream that it reads, and its name there."""

    stream: str
    name: str

    @property
    def key(self) -> str:
        """Its name in its listener's own records: `<name>` on EVENTS, `<name>@<n>` on the later generation n."""
        number = number_of(self.stream)
        return f"{self.name}@{number}" if number else self.name


class AcknowledgedPosition(NamedTuple):
    """What a process knows of its acknowledgements to one consumer.

    `session`: the name of the process's last session that reset the consumer.
    """

    session: str
    until: int
    """The sequence up to which the session has acknowledged all."""
    confirmed: int
    """The sequence up to which it had, when the broker last said that no other session had taken over the consumer.

    What the session acknowledged later may have been deliveries to another session."""

    def known(self, info: ConsumerInfo) -> int:
        """Return the sequence up to which the process has surely acknowledged all. `info`: what the broker says now."""
        return self.until if session_of(info) == self.session else self.confirmed


async def has_heard_all(
    js: JetStreamContext,
    place: ConsumerPlace,
    fact: str | None,
    last_sequence: int,
    acknowledged: AcknowledgedPosition | None,
) -> bool:
    """Whether this consumer of a sealed generation has acknowledged all that it hears there, as far as is known.

    The generation ends at `last_sequence`. False if the consumer is missing, has another filter, or has acknowledged
    more than the stream has, or more than `acknowledged` says (None: not compared). Raises the client's errors.
    """
    try:
        info = await js.consumer_info(place.stream, place.name)
    except NotFoundError:
        return False
    same = filter_subjects(info.config) == filter_subjects(consumer_config(place.name, fact, MAX_ACK_PENDING))
    floor = ack_floor(info)
    known = floor if acknowledged is None else acknowledged.known(info)
    return same and not info.num_pending and not info.num_ack_pending and floor <= min(last_sequence, known)


async def ensure_consumer(
    js: JetStreamContext,
    place: ConsumerPlace,
    fact: str | None,
    last_sequence: int,
    truncated_after: int | None = None,
    *,
    session: str = "",
    begin_after: int = 0,
    acknowledged: AcknowledgedPosition | None = None,
    max_ack_pending: int = MAX_ACK_PENDING,
    ack_wait_s: float = ACK_WAIT_S,
) -> int:
    """Make or update a durable consumer, and reset it: it delivers all unacknowledged messages right away.

    `fact` is the name of the facts that it hears; None: every message. `last_sequence` is the stream's last one. After
    the sequence `truncated_after` the stream may have other messages than those received: the consumer begins right
    after that at the latest. None: no truncation was found; a consumer that has acknowledged more than the stream has
    goes back to the stream's end. One whose filter changed begins at the stream's beginning. One that was missing
    begins after `begin_after`, or after `last_sequence` if that is lower, whatever else is given.

    `acknowledged`: what this process has acknowledged; None: nothing is known yet. A consumer that is there begins
    right after that at the latest: after a power cut the broker may say that more is acknowledged. `session` is the
    session's name. Returns the sequence after which the consumer delivers. Raises the client's errors.
    """
    stream, name = place
    wanted = consumer_config(name, fact, max_ack_pending, ack_wait_s, session=session)
    try:
        info = await js.consumer_info(stream, name)
    except NotFoundError:
        floor = min(begin_after, last_sequence)
        logger.info("creating consumer", stream=stream, consumer=name, hears=fact, begins_after=floor)
        await js.add_consumer(stream, wanted)
        # After a power cut it may not be as new as it looks: it inherits the state files of the consumer that was lost.
        await js.reset_consumer(stream, name, floor + 1)
        return floor
    restart_from = _restart_from(info, wanted, last_sequence, truncated_after, acknowledged)
    await js.add_consumer(stream, wanted)  # updates what may be updated
    # Messages that were delivered to a session that is gone would wait for ack_wait; a reset delivers them now.
    await js.reset_consumer(stream, name, restart_from)
    return ack_floor(info) if restart_from is None else restart_from - 1


def ack_floor(info: ConsumerInfo) -> int:
    """Return the sequence up to which all that the consumer hears is acknowledged; 0: nothing is."""
    return (info.ack_floor.stream_seq or 0) if info.ack_floor is not None else 0


def _restart_from(
    info: ConsumerInfo,
    wanted: ConsumerConfig,
    last_sequence: int,
    truncated_after: int | None,
    acknowledged: AcknowledgedPosition | None,
) -> int | None:
    """Return the sequence from which the consumer must deliver, and log why.

    None: it continues after its last acknowledged message.
    """
    name = wanted.durable_name
    if filter_subjects(info.config) != filter_subjects(wanted):
        logger.warning("the consumer's filter changed: it receives everything from the beginning", consumer=name)
        return 1
    floor = ack_floor(info)
    known = floor if acknowledged is None else min(floor, acknowledged.known(info))
    if truncated_after is not None:
        logger.warning("the stream was truncated: its new tail is received", consumer=name, after=truncated_after)
        # Before the truncation, too, a message may be unacknowledged: its decision waits for another attempt.
        return min(truncated_after, known) + 1
    if known > last_sequence:
        logger.warning(
            "the stream was truncated: the consumer goes back to its end",
            consumer=name,
            acknowledged=known,
            stream_ends_at=last_sequence,
        )
        return last_sequence + 1
    if known < floor:
        logger.warning(
            "the broker has more acknowledged than this service: the consumer goes back",
            consumer=name,
            acknowledged=known,
            broker_has=floor,
        )
        return known + 1
    return None


async def ensure_consumer_at(
    js: JetStreamContext, place: ConsumerPlace, fact: str | None, begin_at: int, *, session: str = ""
) -> None:
    """Make or update a read model's durable consumer, and reset it: it delivers from the sequence `begin_at` on.

    It does so even if it has delivered these messages before. `fact` is the name of the facts that it hears; None:
    every message. `session`: as in `ensure_consumer`. Raises the client's errors.
    """
    stream, name = place
    wanted = consumer_config(name, fact, VIEW_MAX_ACK_PENDING, session=session)
    await js.add_consumer(stream, wanted)  # makes it, or updates what may be updated
    await js.reset_consumer(stream, name, begin_at)


async def all_consumers(js: JetStreamContext, stream: str) -> list[ConsumerInfo]:
    """Return all consumers of the stream: the server answers with LIST_LIMIT at a time. Raises the client's errors."""
    found = page = await js.consumers_info(stream)
    while len(page) >= LIST_LIMIT:
        page = await js.consumers_info(stream, offset=len(found))
        found = [*found, *page]
    return found


def filter_subjects(config: ConsumerConfig) -> Sequence[str]:
    """Return the subjects that a consumer hears, sorted; empty: it hears every message."""
    return sorted(config.filter_subjects or ([config.filter_subject] if config.filter_subject else []))
