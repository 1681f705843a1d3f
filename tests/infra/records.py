"""Records for tests of the store: short, and without facts, because a store does not read the bodies."""

from collections.abc import Sequence

from infra.store.event_store import EventStore
from infra.store.records import Notification, Record

ALL = 100_000
"""More records than any test writes."""


def record(stream: str, version: int, topic: str = "happened") -> Record:
    return Record(stream, version, topic, f'{{"stream":"{stream}","version":{version}}}'.encode())


def records(stream: str, versions: range, topic: str = "happened") -> list[Record]:
    return [record(stream, version, topic) for version in versions]


def at(position: int, stored: Record) -> Notification:
    return Notification(position, *stored)


async def log_of(store: EventStore) -> list[Notification]:
    """The whole log, as the store's port returns it."""
    return await store.select_notifications(0, ALL)


async def streams_of(store: EventStore) -> list[tuple[str, int]]:
    """(stream, version) of the whole log."""
    return [(stored.originator_id, stored.originator_version) for stored in await log_of(store)]


def names(found: Sequence[Notification]) -> list[tuple[int, str]]:
    """(position, topic)."""
    return [(stored.position, stored.topic) for stored in found]
