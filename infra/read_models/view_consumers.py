"""A read model's durable consumers on all generations not archived: each session resets them to their checkpoints."""

import contextlib
from collections.abc import Collection, Sequence

import structlog
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from infra.broker.consumers import (
    ConsumerPlace,
    consumer_names,
    ensure_consumer_at,
)
from infra.broker.floor import first_kept
from infra.broker.leader import Leader
from infra.broker.predecessor import find_predecessor, remove_predecessor
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer_session import ConsumerSession
from infra.core.messages import StreamPosition
from infra.read_models.tables import START, Checkpoint, Projection, Tables
from infra.settings import Settings

logger = structlog.get_logger()


class ViewConsumers:
    """The consumers of one read model. A session begins without those that have read all of a sealed generation."""

    def __init__(self, projection: Projection, listener: str, tables: Tables, settings: Settings) -> None:
        self._view = projection.name
        self._listener = listener
        self._tables = tables
        self._settings = settings
        self._names = consumer_names(listener, projection.topics)
        self._places: list[ConsumerPlace] = []
        """Those of the session."""

    async def hear_all(
        self, js: JetStreamContext, leaders: Sequence[Leader], sealed: Collection[str], session: ConsumerSession
    ) -> int:
        """Take the view over from other sessions; add the consumers to `session`; return how many messages are unread.

        The other session fails (`ConsumerSession.take_over`). The consumers are those on all generations that are not
        archived. Each is reset to its checkpoint, or to the beginning if its stream lost the message there. Then those
        that have nothing unread on a sealed generation are left out. The predecessor, if there is one, is removed.
        Raises LeaderUnavailable, BrokerMisconfigured if the archive cannot be used, the client's errors.
        """
        self._places = []
        kept = first_kept(self._settings)
        leaders = [leader for leader in leaders if leader.number >= kept]
        predecessor = await find_predecessor(js, self._listener)
        begins = [await self._resume_positions(leader) for leader in leaders]
        await session.take_over()
        unread = 0
        for leader, begin in zip(leaders, begins, strict=True):
            unread += await self._hear(js, begin, session, sealed=leader.name in sealed)
        await remove_predecessor(js, predecessor)
        return unread

    async def hear(self, js: JetStreamContext, leader: Leader, session: ConsumerSession) -> int:
        """Reset the consumers of one more generation as `hear_all` does, and add all of them.

        Returns how many messages are unread there. Raises LeaderUnavailable, the client's errors.
        """
        return await self._hear(js, await self._resume_positions(leader), session, sealed=False)

    async def waiting(self, js: JetStreamContext) -> int:
        """Count the session's unacknowledged messages, delivered or not; 0 of a consumer that is gone.

        Raises the client's errors.
        """
        unread = 0
        for place in self._places:
            with contextlib.suppress(NotFoundError):  # of a generation that was archived since: it has read all
                unread += await _unread(js, place)
        return unread

    async def _hear(
        self, js: JetStreamContext, begins: dict[ConsumerPlace, Checkpoint], session: ConsumerSession, *, sealed: bool
    ) -> int:
        added: dict[ConsumerPlace, ReceivedPositions] = {}
        waiting = 0
        for place, begin in begins.items():
            await ensure_consumer_at(js, place, self._names[place.name], begin.position + 1, session=session.name)
            unread = await _unread(js, place)
            waiting += unread
            if unread or not sealed:
                added[place] = ReceivedPositions()
        self._places += added
        session.add(added)
        return waiting

    async def _resume_positions(self, leader: Leader) -> dict[ConsumerPlace, Checkpoint]:
        """Return the checkpoint from which each consumer of this generation is to go on."""
        places = [ConsumerPlace(leader.name, name) for name in self._names]
        return {place: await self._resume_position(leader, place) for place in places}

    async def _resume_position(self, leader: Leader, place: ConsumerPlace) -> Checkpoint:
        """Return the consumer's checkpoint; START, which is logged, if its stream lost the message read there."""
        checkpoint, received = self._tables.checkpoint_of(place.key), ReceivedPositions()
        if checkpoint != START:
            received.add(StreamPosition(*checkpoint))
        if await received.truncated_after(leader) is None:
            return checkpoint
        logger.warning(
            "the stream was replaced or truncated: the view reads it again from the beginning",
            view=self._view,
            stream=place.stream,
        )
        return START


async def _unread(js: JetStreamContext, place: ConsumerPlace) -> int:
    info = await js.consumer_info(*place)
    return (info.num_pending or 0) + (info.num_ack_pending or 0)
