"""Where an audit goes on: behind the last one that found nothing, if nothing before that was changed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from contracts.wire import fact_id
from infra.store.records import Notification
from infra.store.sqlite import SQLiteStore
from ops import stores
from ops.audit import cut
from ops.audit.chain import Chain
from ops.audit.cut import Cut, Logs
from ops.invariants import Finding
from ops.invariants.copies import LoggedFacts, word
from ops.reading import Stream

FORMAT: Final = 3
"""Of all that is remembered: from a checkpoint of another one no audit goes on."""


class Checkpoint(Struct):
    """What is kept of an audit beside what its checker remembers."""

    format: int
    cut: Cut
    digests: dict[str, str]
    """By service: its chain's digest at the cut."""
    last_stored: datetime | None = None
    """When the broker stored what stands at the stream's last sequence."""


async def rewritten(logs: Logs, last: Checkpoint, facts: LoggedFacts, chains: Mapping[str, Chain]) -> list[Finding]:
    """What is not any more as it was at the checkpoint; takes all up to it into the chains. Raises StoreError."""
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


async def same_stream(stream: Stream, last: Checkpoint, now: Cut) -> bool:
    """Whether the stream still is the one that was audited, with all that it had then."""
    return (
        (last.cut.created, last.cut.removed) == (now.created, now.removed)
        and last.cut.sequence <= now.sequence
        and last.last_stored == (await cut.stored_at(stream, last.cut.sequence) if last.cut.sequence else None)
    )
