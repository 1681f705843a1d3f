"""The heads of a service's streams: folded from the store when first needed, kept while they are in use.

The cache is bounded, and dropping any of it is always safe: a head that is missing is folded again, and one that is
stale shows itself as a Conflict when its next version is recorded.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from functools import cache

import msgspec

from contracts.wire import decode
from infra.core.decider import Aggregate, Aggregates, State, StreamState, category
from infra.store.event_store import EventStore, StoreError
from infra.store.records import History, Record

CACHED_STATES = 8_192
"""Twice what may be under way by default. Small ones take 4 to 8 MB; the largest orders, of 100 lines, 30 kB each."""

SNAPSHOT_EVERY = 200  # versions of one stream: what is folded, and read for it, when a head is not in memory


class StreamUnreadable(StoreError):
    """What is stored of this stream cannot be read, or not be folded; that of others can."""

    def __init__(self, stream: str, why: str) -> None:
        super().__init__(f"{stream}: {why}")
        self.stream = stream


class StateCache:
    """Committed heads by stream. What it gives out must not be written to: fork it."""

    def __init__(self, aggregates: Aggregates, store: EventStore, limit: int = CACHED_STATES) -> None:
        self._aggregates = aggregates
        self._store = store
        self._limit = limit
        self._heads: OrderedDict[str, StreamState] = OrderedDict()
        self._topics = {name: snapshot_topic(name, aggregate) for name, aggregate in aggregates.items()}

    async def get(self, streams: Collection[str]) -> dict[str, StreamState]:
        """The head of each of these streams; one without history has version 0.

        Raises StoreError; StreamUnreadable if it is one of them alone.
        """
        # Taken now: while the store is asked, whoever else reads or records may drop any of them.
        found = {stream: self._heads[stream] for stream in streams if stream in self._heads}
        missing = [stream for stream in streams if stream not in found]
        if missing:
            histories = await self._store.select_streams(missing, self._topics.values())
            for stream in missing:
                # The writer may have put a newer one there while this one was on its way.
                found[stream] = self._heads.setdefault(stream, self._fold(stream, histories.get(stream)))
            self._trim()
        return found

    def assume_new(self, streams: Iterable[str]) -> dict[str, StreamState]:
        """Empty heads for those of these streams that are not in memory and usually new.

        What is decided on one holds if something is recorded on it: the store takes version 1 of a stream only once.
        """
        return {
            stream: StreamState(0, aggregate.state())
            for stream in streams
            if stream not in self._heads and (aggregate := self._aggregates[category(stream)]).usually_new
        }

    def _fold(self, stream: str, history: History | None) -> StreamState:
        aggregate = self._aggregates[category(stream)]
        head = StreamState(0, aggregate.state())
        if history is None:
            return head
        snapshot, records = history
        try:
            if snapshot is not None:
                head.state = msgspec.json.decode(snapshot.state, type=type(head.state))
                head.version = snapshot.originator_version
            for record in records:
                aggregate.evolve(head.state, decode(record.state))
        except msgspec.DecodeError as error:
            raise StreamUnreadable(stream, f"a record cannot be read: {error}") from error
        except Exception as error:
            raise StreamUnreadable(stream, f"cannot be folded: {error!r}") from error
        if records:
            head.version = records[-1].originator_version
        return head

    def put(self, heads: Mapping[str, StreamState]) -> list[Record]:
        """Let these committed heads be seen; gives the snapshots that are due.

        Beyond the bound, what was written longest ago is dropped.
        """
        due = []
        for stream, head in heads.items():
            before = self._heads.pop(stream, None)
            self._heads[stream] = head  # at the end: what was written longest ago stands first
            if before is not None and before.version // SNAPSHOT_EVERY != head.version // SNAPSHOT_EVERY:
                due.append(self._snapshot(stream, head))
        self._trim()
        return due

    def _trim(self) -> None:
        while len(self._heads) > self._limit:
            self._heads.popitem(last=False)

    def _snapshot(self, stream: str, head: StreamState) -> Record:
        return Record(stream, head.version, self._topics[category(stream)], msgspec.json.encode(head.state))

    def drop(self, streams: Iterable[str]) -> None:
        """Forget these heads: the store may know better."""
        for stream in streams:
            self._heads.pop(stream, None)


@cache
def snapshot_topic(name: str, aggregate: Aggregate) -> str:
    """Names the shape of the state too, so that a snapshot of a shape the code no longer has is never read."""
    state: type[State] = type(aggregate.state())
    shape = hashlib.sha256(msgspec.json.encode(msgspec.json.schema(state))).hexdigest()[:12]
    return f"{name}.snapshot.{shape}"
