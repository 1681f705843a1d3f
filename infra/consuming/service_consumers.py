"""A service's durable consumers on all generations: each session makes them deliver what is not acknowledged."""

from collections.abc import Collection, Sequence

from nats.js import JetStreamContext

from infra.broker.consumers import (
    AcknowledgedPosition,
    ConsumerPlace,
    consumer_names,
    ensure_consumer,
    has_heard_all,
)
from infra.broker.leader import Leader
from infra.broker.predecessor import Predecessor, find_predecessor, remove_predecessor
from infra.broker.truncation import ReceivedPositions
from infra.consuming.consumer_session import ConsumerSession
from infra.consuming.limits import SessionLimits


class ServiceConsumers:
    """Makes and resets the consumers; remembers over all of this process's sessions what each received and acked."""

    def __init__(self, service: str, hears: Collection[str], limits: SessionLimits) -> None:
        """`hears` are the names of the facts that the service consumes."""
        self._service = service
        self._names = consumer_names(service, hears)
        self._limits = limits
        self._received: dict[ConsumerPlace, ReceivedPositions] = {}
        self._acknowledged: dict[ConsumerPlace, AcknowledgedPosition] = {}
        """By consumer; empty before the first session."""
        self._lowest_ends: dict[str, int] = {}
        """By stream: its lowest last sequence seen since its consumers were reset: a session may fail before that."""

    def remember(self, session: ConsumerSession) -> None:
        """Remember what a session that is over has acknowledged."""
        for one in session.consumers:
            if one.acknowledged is not None:
                begun_after = self._acknowledged[one.place].confirmed
                confirmed = begun_after if one.confirmed is None else one.confirmed
                self._acknowledged[one.place] = AcknowledgedPosition(session.name, one.acknowledged, confirmed)

    def remember_ends(self, leaders: Sequence[Leader]) -> None:
        """Remember each stream's lowest last sequence until its consumers are reset. Call it as a session begins."""
        for leader in leaders:
            self._lowest_ends[leader.name] = self._lowest_end(leader)

    def _lowest_end(self, leader: Leader) -> int:
        return min(leader.last_sequence, self._lowest_ends.get(leader.name, leader.last_sequence))

    async def reset(
        self, js: JetStreamContext, leaders: Sequence[Leader], sealed: Collection[str], session: ConsumerSession
    ) -> None:
        """Let the session take over, and make each consumer deliver to it what is not acknowledged.

        Deletes the consumer of the version before (`predecessor`) after that. `sealed`: the names of the sealed
        generations. Raises LeaderUnavailable, the client's errors.
        """
        streams = {leader.name for leader in leaders}
        self._received = {place: found for place, found in self._received.items() if place.stream in streams}
        self._acknowledged = {place: floor for place, floor in self._acknowledged.items() if place.stream in streams}
        self._lowest_ends = {stream: end for stream, end in self._lowest_ends.items() if stream in streams}
        predecessor = await find_predecessor(js, self._service)
        await session.take_over()
        for leader in leaders:
            await self.add_generation(js, leader, session, sealed=leader.name in sealed, predecessor=predecessor)
        await remove_predecessor(js, predecessor)

    async def add_generation(
        self,
        js: JetStreamContext,
        leader: Leader,
        session: ConsumerSession,
        *,
        sealed: bool,
        predecessor: Predecessor | None = None,
    ) -> None:
        """Make the consumers of one generation deliver to the session what is not acknowledged, and add all to it.

        If the stream was truncated, they go back to the truncation. Otherwise those of a sealed generation that have
        certainly acknowledged all are not reset: they are added as retired. A missing consumer begins where
        `predecessor` says (`begin_after`); None: at the beginning. Raises LeaderUnavailable, the client's errors.
        """
        limits, last = self._limits, self._lowest_end(leader)
        places = {ConsumerPlace(leader.name, name): fact for name, fact in self._names.items()}
        for place in places:
            self._received.setdefault(place, ReceivedPositions(limits.remembered_positions))
        found = [await self._received[place].truncated_after(leader) for place in places]
        after = min((one for one in found if one is not None), default=None)
        retired: list[ConsumerPlace] = []
        for place, fact in places.items():
            known = self._acknowledged.get(place)
            if sealed and after is None and await has_heard_all(js, place, fact, last, known):
                retired.append(place)
                continue
            begins_after = await ensure_consumer(
                js,
                place,
                fact,
                last,
                after,
                session=session.name,
                begin_after=predecessor.begin_after(place, fact) if predecessor else 0,
                acknowledged=known,
                max_ack_pending=limits.max_ack_pending,
                ack_wait_s=limits.ack_wait_s,
            )
            self._acknowledged[place] = AcknowledgedPosition(session.name, begins_after, begins_after)
            if after is not None:
                self._received[place].forget_after(after)
        self._lowest_ends.pop(leader.name, None)
        session.add({place: self._received[place] for place in places}, retired)
