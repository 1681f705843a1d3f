"""A model of a service's event store: the content of its disk, and one process's view of it."""

import asyncio
from collections.abc import Collection, Sequence

from infra.store.errors import Conflict, StoreError
from infra.store.records import Notification, Record, StreamHistory
from infra.store.tail import TAIL_RECORDS, Tail
from tests.sim.chance import Chance
from tests.sim.loop import running
from tests.sim.steps import Reach, nowhere


class Disk:
    """One service's log and snapshots. They outlive the processes that use them."""

    def __init__(self, service: str) -> None:
        self.log: list[Record] = []
        self._service = service
        self._loop = running()
        self.snapshots: dict[str, Record] = {}
        self._streams: dict[str, list[Record]] = {}

    def append(self, records: Sequence[Record]) -> None:
        """Append all records or none. Raises Conflict."""
        ends = {stream: len(log) for stream, log in self._streams.items()}
        for record in records:
            if record.originator_version != ends.get(record.originator_id, 0) + 1:
                raise Conflict(f"{record.originator_id}@{record.originator_version}")
            ends[record.originator_id] = record.originator_version
        for record in records:
            self._loop.note("{} records {} of {}", self._service, record.topic, record.originator_id[:18])
            self.log.append(record)
            self._streams.setdefault(record.originator_id, []).append(record)

    def history(self, stream: str, topics: Collection[str]) -> StreamHistory | None:
        records = self._streams.get(stream, [])
        snapshot = self.snapshots.get(stream)
        if snapshot is None or snapshot.topic not in topics:
            return StreamHistory(None, list(records)) if records else None
        return StreamHistory(snapshot, records[snapshot.originator_version :])

    def copy(self, records: int) -> "Disk":
        """A copy of this disk as it was when its log had `records` records."""
        other = Disk(f"the old copy of {self._service}")
        other.append(self.log[:records])
        return other


class Troubles:
    """The faults of a store: the next calls fail, before or after they have done their work."""

    def __init__(self) -> None:
        self.before = 0
        self.after = 0


class Store:
    """The port `infra.store.EventStore`, as one process has it. Its tail is the real one."""

    has_moved = False
    place = "the model of a disk"

    def __init__(
        self,
        disk: Disk,
        chance: Chance,
        troubles: Troubles,
        reach: Reach = nowhere,
        tail_records: int = TAIL_RECORDS,
    ) -> None:
        self._disk = disk
        self._chance = chance
        self._troubles = troubles
        self._reach = reach
        self._tail = Tail(tail_records)

    async def _at(self, step: str) -> None:
        if self._reach(step):
            await asyncio.sleep(0)

    async def _pass(self) -> None:
        await asyncio.sleep(self._chance.delay_s())
        if self._troubles.before:
            self._troubles.before -= 1
            raise StoreError("database is locked")

    async def insert_events(self, records: Sequence[Record]) -> None:
        try:
            await self._at("decided")
            await self._pass()
            await self._at("recording")
            first = len(self._disk.log) + 1
            self._disk.append(records)
            await self._at("recorded")
            if self._troubles.after:
                self._troubles.after -= 1
                raise StoreError("disk I/O error")
            await asyncio.sleep(self._chance.delay_s())
        except BaseException:
            self._tail.clear()
            raise
        self._tail.append(records, first)

    async def select_streams(
        self, streams: Collection[str], snapshot_topics: Collection[str]
    ) -> dict[str, StreamHistory]:
        await self._pass()
        found = {stream: self._disk.history(stream, snapshot_topics) for stream in streams}
        return {stream: history for stream, history in found.items() if history is not None}

    async def select_notifications(self, after: int, limit: int, topics: Collection[str] = ()) -> list[Notification]:
        if (newest := self._tail.read(after, limit, topics)) is not None:
            return newest
        await self._pass()
        found = [Notification(n, *record) for n, record in enumerate(self._disk.log[after:], after + 1)]
        return [one for one in found if not topics or one.topic in topics][:limit]

    async def max_notification_id(self) -> int:
        await self._pass()
        last = len(self._disk.log)
        self._tail.clear_if_behind(last)
        return last

    async def insert_snapshots(self, snapshots: Sequence[Record]) -> None:
        await self._at("snapshotting")
        await self._pass()
        self._disk.snapshots.update({snapshot.originator_id: snapshot for snapshot in snapshots})

    async def check(self) -> None:
        await self._pass()
