"""The point where an audit continues: the end of the last one without findings, if no earlier record has changed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from contracts.wire import fact_id
from infra.store.records import Notification
from infra.store.sqlite import SQLiteStore
from ops import stores
from ops.audit import cut
from ops.audit.chain import HashChain
from ops.audit.cut import Cut, ServiceLogs
from ops.invariants import Finding
from ops.invariants.copies import LoggedFacts, word
from ops.reading import Stream

FORMAT: Final = 3
"""The format of everything that is remembered. An audit does not continue from a checkpoint of another format."""


class AuditCheckpoint(Struct):
    """The data that an audit saves beside its checker's memory."""

    format: int
    cut: Cut
    digests: dict[str, str]
    """By service: its chain's digest at the cut."""
    last_stored: datetime | None = None
    """When the broker stored the message at the stream's last sequence."""


async def rewritten(
    logs: ServiceLogs, last: AuditCheckpoint, facts: LoggedFacts, chains: Mapping[str, HashChain]
) -> list[Finding]:
    """A finding for each log that changed before the checkpoint. Adds the records up to it to the chains.

    Raises StoreError.
    """
    findings = []
    for name, log in logs.items():
        end = last.cut.logs.get(name, 0)
        async for records in stores.chunks(log, until=end):
            chains[name].take(records)
        if chains[name].position != end or chains[name].digest != last.digests.get(name, chains[name].digest):
            where, what = await _first_change(log, name, end, facts)
            findings.append(Finding(0, where, what))
    return findings


async def _first_change(log: SQLiteStore, name: str, end: int, facts: LoggedFacts) -> tuple[str, str]:
    async for records in stores.chunks(log, until=end):
        for record in records:
            if facts.get(record.originator_id, record.originator_version) != word(record.state):
                return _place(name, record), "is not what the last audit read here: the log was rewritten"
    return f"{name} log, up to position {end}", "records were removed or moved since the last audit"


def _place(name: str, record: Notification) -> str:
    return f"{name} log, position {record.position}, {fact_id(record.originator_id, record.originator_version)}"


async def same_stream(stream: Stream, last: AuditCheckpoint, now: Cut) -> bool:
    """Whether the stream is the one that was audited, and still has every message that it had then."""
    return (
        (last.cut.created, last.cut.removed) == (now.created, now.removed)
        and last.cut.sequence <= now.sequence
        and last.last_stored == (await cut.stored_at(stream, last.cut.sequence) if last.cut.sequence else None)
    )
