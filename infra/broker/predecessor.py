"""The one consumer that a listener had in the version before, for several facts at once: its successors go on there."""

import contextlib
from typing import NamedTuple

import structlog
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from infra.broker.consumers import ConsumerPlace, ack_floor, filter_subjects
from infra.broker.numbering import EVENTS

logger = structlog.get_logger()


class Predecessor(NamedTuple):
    """A listener's durable consumer of the version before, which heard several facts at once."""

    name: str
    heard: frozenset[str]
    """The names of the facts that it heard."""
    acknowledged: int
    """The sequence up to which it had acknowledged all of them."""

    def begin_after(self, place: ConsumerPlace, fact: str | None) -> int:
        """Return the sequence after which the successor at `place`, which hears `fact`, begins; 0: at the beginning."""
        return self.acknowledged if place.stream == EVENTS and fact in self.heard else 0


async def find_predecessor(js: JetStreamContext, listener: str) -> Predecessor | None:
    """Return the consumer that the version before had for this listener. Raises the client's errors.

    None if there is none, or if the consumer named `listener` hears every message: this version has such consumers.
    Make the listener's own consumers; then call `remove_predecessor`.
    """
    try:
        info = await js.consumer_info(EVENTS, listener)
    except NotFoundError:
        return None
    heard = frozenset(pattern.removesuffix(".*") for pattern in filter_subjects(info.config))
    return Predecessor(listener, heard, ack_floor(info)) if heard else None


async def remove_predecessor(js: JetStreamContext, found: Predecessor | None) -> None:
    """Delete the consumer, if one was found: its successors are there. Raises the client's errors."""
    if found is not None:
        with contextlib.suppress(NotFoundError):
            await js.delete_consumer(EVENTS, found.name)
        logger.info("replaced the consumer of the version before", consumer=found.name, acknowledged=found.acknowledged)
