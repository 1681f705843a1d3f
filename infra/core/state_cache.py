"""Folds the states of a service's streams from the store when they are needed, and caches them.

The cache is bounded, and evicting is always safe. A missing state is folded again; a stale one causes a Conflict when
its next version is recorded.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Final

import msgspec

from contracts.newer import OfNewerCode
from contracts.wire import decode, fact_id
from infra.code_hash import code_hash
from infra.core.decider import Aggregate, Aggregates, StreamState, category
from infra.core.errors import StreamUnreadable
from infra.core.unreadable import UnreadableStreams
from infra.store.event_store import EventStore
from infra.store.records import Record, StreamHistory

CACHED_STATES: Final = 8_192
"""States in the cache, at most: many more than one batch uses. As many small states take 4 to 8 MB together; a state
that keeps a request of 100 lines takes 30 kB."""

SNAPSHOT_EVERY: Final = 200
"""Versions of one stream between two snapshots: about the most that are read and folded when a state is not cached.
Without a usable snapshot, such as after the code that folds the state has changed, all are."""


class StateCache:
    """Returns committed states of streams, from memory or folded from the store. Fork a returned state to change it."""

    def __init__(
        self,
        aggregates: Aggregates,
        store: EventStore,
        limit: int = CACHED_STATES,
        snapshot_every: int = SNAPSHOT_EVERY,
    ) -> None:
        """`limit` is the most streams in memory; `snapshot_every` is in versions of one stream."""
        self._aggregates = aggregates
        self._store = store
        self._limit = limit
        self._snapshot_every = snapshot_every
        self._states: OrderedDict[str, StreamState] = OrderedDict()
        self.unreadable = UnreadableStreams()
        self._topics = {name: snapshot_topic(name, aggregate) for name, aggregate in aggregates.items()}

    async def get(self, streams: Collection[str]) -> dict[str, StreamState]:
        """Return the committed states by stream, and cache them; a stream without records is at version 0.

        Raises StreamUnreadable if one stream's records or its snapshot cannot be decoded or folded; StoreError if the
        store cannot be read.
        """
        # Taken before the store is read: other readers and the writer may evict any of them meanwhile.
        found = {stream: self._states[stream] for stream in streams if stream in self._states}
        missing = [stream for stream in streams if stream not in found]
        if missing:
            histories = await self._store.select_streams(missing, self._topics.values())
            for stream in missing:
                # The writer may have published a newer one while the store was read.
                found[stream] = self._states.setdefault(stream, self._fold(stream, histories.get(stream)))
            self._trim()
        return found

    def assume_new(self, streams: Iterable[str]) -> dict[str, StreamState]:
        """Return empty states (version 0), by stream, for the streams that are not cached and are usually new.

        Reads nothing. A decision over such a state is valid only if it records on that stream: the store takes version
        1 only once. That proves nothing of a stream if older code may have recorded its facts in another stream; such a
        stream is left out.
        """
        has_moved = self._store.has_moved
        return {
            stream: StreamState(0, aggregate.state())
            for stream in streams
            if stream not in self._states
            and (aggregate := self._aggregates[category(stream)]).usually_new
            and not (has_moved and aggregate.moved)
        }

    def _fold(self, stream: str, history: StreamHistory | None) -> StreamState:
        aggregate = self._aggregates[category(stream)]
        folded = StreamState(0, aggregate.state())
        if history is None:
            return folded
        snapshot, records, earlier = history
        record = snapshot
        try:
            if snapshot is not None:
                folded.state = msgspec.json.decode(snapshot.state, type=type(folded.state))
                folded.version = snapshot.originator_version
            else:
                for record in earlier:
                    aggregate.evolve(folded.state, decode(record.state))
            for record in records:
                aggregate.evolve(folded.state, decode(record.state))
                folded.version = record.originator_version
        except Exception as error:
            assert record is not None  # only reading or folding one raises
            its_id = fact_id(record.originator_id, record.originator_version)
            at = f"the snapshot of {its_id}" if record is snapshot else its_id
            if isinstance(error, msgspec.DecodeError):
                why = f"a record cannot be read: {at}: {error}"
            else:
                why = f"{at} cannot be folded: {error!r}"
            newer = isinstance(error, OfNewerCode)
            self.unreadable.add(stream, why, newer=newer)
            raise StreamUnreadable(stream, why, newer=newer) from error
        return folded

    def publish(self, committed: Mapping[str, StreamState]) -> list[Record]:
        """Cache these states, just committed, for readers; return the snapshots that the caller should store.

        A snapshot is due when the version of a cached stream reaches or passes a multiple of `snapshot_every`. Beyond
        its limit the cache evicts the streams that were written or loaded longest ago.
        """
        due, every = [], self._snapshot_every
        for stream, stream_state in committed.items():
            before = self._states.pop(stream, None)
            self._states[stream] = stream_state  # at the end: the stream written longest ago is first
            if before is not None and before.version // every != stream_state.version // every:
                due.append(self._snapshot(stream, stream_state))
        self._trim()
        return due

    def _trim(self) -> None:
        while len(self._states) > self._limit:
            self._states.popitem(last=False)

    def _snapshot(self, stream: str, stream_state: StreamState) -> Record:
        body = msgspec.json.encode(stream_state.state)
        return Record(stream, stream_state.version, self._topics[category(stream)], body)

    def evict(self, streams: Iterable[str]) -> None:
        """Remove these streams from the cache."""
        for stream in streams:
            self._states.pop(stream, None)


@cache
def snapshot_topic(name: str, aggregate: Aggregate) -> str:
    """The topic of the snapshots of the aggregate of category `name`: `<name>.snapshot.<hash>`.

    The hash is of the code that folds the state (`code_hash`): other code has another topic, so it reads none of these.
    """
    return f"{name}.snapshot.{code_hash(aggregate.evolve, type(aggregate.state()))}"
