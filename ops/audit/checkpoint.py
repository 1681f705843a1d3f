"""The checkpoint from which an audit continues: the cut of the last audit with the verdict `good`.

An audit continues there only if the logs have the same chains up to that cut, and the stream passes `same_stream`.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct

from contracts.wire import FACTS, fact_id
from infra.code_hash import code_hash
from infra.store.records import Notification
from infra.store.sqlite import SQLiteStore
from ops import stores
from ops.audit import cut
from ops.audit.chain import HashChain
from ops.audit.cut import Cut, ServiceLogs
from ops.audit.disk_memory import DiskMemory
from ops.invariants import Checker, Finding
from ops.invariants.copies import LoggedFacts, word
from ops.reading import Stream

FORMAT: Final = 5
"""The format of a checkpoint's file. An audit ignores a checkpoint of another format and begins at the beginning."""


@cache
def code() -> str:
    """Return a hash of the code that makes a checker's memory. An audit ignores a checkpoint of other code, too.

    Reads the source files, so only an audit asks.
    """
    return code_hash(Checker, *FACTS.values())


class AuditCheckpoint(Struct):
    """What a `good` audit saves besides its checker's memory, so that changed history is noticed later."""

    format: int
    cut: Cut
    digests: dict[str, str]
    """Service → the digest (hex) of its log's hash chain at the cut."""
    last_stored: datetime | None = None
    """When the broker stored the message at the cut's last stream sequence; null if the stream was empty."""
    code: str = ""
    """`code()` when it was saved."""

    @property
    def is_current(self) -> bool:
        """Whether it has this version's format and hash of the code."""
        return (self.format, self.code) == (FORMAT, code())


def last(memory: DiskMemory) -> AuditCheckpoint | None:
    """Return the checkpoint in this memory, current or not; None without one, or if it cannot be decoded.

    Raises sqlite3.Error.
    """
    try:
        return memory.few("checkpoint", AuditCheckpoint).get("last")
    except msgspec.DecodeError:
        return None


async def rewritten(
    logs: ServiceLogs, last: AuditCheckpoint, facts: LoggedFacts, chains: Mapping[str, HashChain]
) -> list[Finding]:
    """Read each log up to the checkpoint, and return a finding for each log that is not what the last audit read.

    A finding names the first changed record, if there is one. `facts`: what the last audit kept of each fact.
    `chains`: new chains, by service; the records read are added to them. Raises StoreError, sqlite3.Error.
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
    """Whether each audited generation is still the same, and still has all its messages up to the checkpoint.

    It compares when each was made, how many messages were removed, and when the last audited message was stored. False,
    too, if a message with a sequence after the checkpoint was removed of such a generation. Newer generations may have
    been made since. Raises LeaderUnavailable, ArchiveDamaged, the client's errors.
    """
    return all(
        _is_still(then, now.generations.get(name)) for name, then in last.cut.generations.items()
    ) and last.last_stored == (await cut.stored_at(stream, last.cut.sequence) if last.cut.sequence else None)


def _is_still(then: cut.Generation, now: cut.Generation | None) -> bool:
    same = now is not None and (then.created, then.removed) == (now.created, now.removed)
    return same and now is not None and then.sequence <= now.sequence
