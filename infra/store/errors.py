"""The errors of a store.

StoreError                  the call failed; an append may or may not have been recorded
 ├ Conflict                 a version is taken already; nothing of the append was recorded
 ├ StreamUnreadable         one stream cannot be read (in infra/core/errors.py: the core decodes and folds)
 └ StoreSetupError          a file cannot be used; an operator has to act

The first two are the `eventsourcing` library's own, because its recorders raise them.
"""

import errno
import sqlite3
from typing import Final

from eventsourcing.persistence import IntegrityError, PersistenceError

StoreError = PersistenceError
"""A call of the store failed. A failed append, unless with Conflict, may have recorded all of its records, or none."""

Conflict = IntegrityError
"""The log already has a record with the stream and version of a new one. Nothing of the append was recorded."""


class StoreSetupError(StoreError):
    """The file of a store or read model cannot be used: it does not open, is not durable, or belongs to another log.

    An open store raises this, too, once it knows that its file is damaged, deleted, replaced or overwritten. The store
    then records and decides nothing more, but its log can still be read. An open store also raises this while another
    program writes to its file; that may pass. Damage that a read meets is a plain StoreError. The message says which
    file, and why.
    """


NEXT_STEPS: Final = {
    frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}): (
        "Another program holds a lock on it and lets nobody read or write: end that program"
    ),
    frozenset({sqlite3.SQLITE_FULL}): "Its disk is full: make room",
    frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN}): (
        "This user may not read and write it, its folder, or the files -wal and -shm beside it (ls -l)"
    ),
    frozenset({sqlite3.SQLITE_IOERR}): "Its disk cannot be read or written: see the machine's log (dmesg)",
}
"""What an operator has to do, by the primary result codes of SQLite that say nothing against the file's content."""

SAME_AS: Final = {
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
    errno.EACCES: sqlite3.SQLITE_PERM,
    errno.EPERM: sqlite3.SQLITE_PERM,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.EIO: sqlite3.SQLITE_IOERR,
}


def shows_damage(error: BaseException) -> bool:
    """Whether this error says that SQLite found the file malformed, or not a database. A missing file: False."""
    return type(error) is sqlite3.DatabaseError


def next_step(error: BaseException, if_damaged: str) -> str:
    """Return what an operator has to do after this error at a file, as a sentence without its full stop.

    The error is of sqlite3 or an OSError; for a StoreError pass its `__cause__`. The step is the one that NEXT_STEPS
    has for the error's code; `if_damaged` if it has none.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        code = SAME_AS.get(getattr(error, "errno", None) or 0, sqlite3.SQLITE_CORRUPT)
    return next((step for codes, step in NEXT_STEPS.items() if code & 0xFF in codes), if_damaged)


def is_damage(error: BaseException) -> bool:
    """Whether this error at a file may mean that its content is damaged: true unless NEXT_STEPS has its cause.

    True for a StoreError, too: its `__cause__` is not looked at.
    """
    return not next_step(error, "")


def rebuild(service: str) -> str:
    """Return what an operator does about a damaged store of `service`, as a sentence without its full stop."""
    return (
        f"If it is damaged: stop {service}_svc, rebuild the store from the stream (just rebuild {service}; "
        "--lose-damaged if the old file cannot be read), start it, then just audit"
    )
