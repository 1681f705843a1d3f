"""Rebuilds a service's store from EVENTS. The old store is put aside; at every moment the old or the new one is in
place.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from contracts.wire import fact_id
from infra import files
from infra.files import LockTaken, exclusive_lock
from infra.settings import SettingsError
from infra.store import identity
from ops.data import moved_folder_name
from ops.errors import Found
from ops.foreign import KnownForeign
from ops.reading import Stream
from ops.rebuild.collecting import collect, journals, new_store


class Rebuilt(Struct):
    """The result of a rebuild. `facts`: how many the new store has. `lost`: how many the old store had besides these.

    `lost` is 0 if the old store could not be read. `foreign`: how many messages were passed over because no service
    published them. `newer`: how many of the facts newer code recorded, the first at `first_newer`. `aside`: the folder
    with the old files; null: there were none, or it was a dry run.
    """

    service: str
    facts: int
    lost: int
    foreign: int
    aside: Path | None
    dry_run: bool
    newer: int = 0
    first_newer: str = ""


class Allowed(Struct, frozen=True):
    """The losses that an operator accepts.

    `unpublished`: of facts that only the old store has. `damaged`: of whatever an unreadable old store may have.
    """

    unpublished: bool = False
    damaged: bool = False


async def rebuild(
    stream: Stream,
    service: str,
    folder: Path,
    allowed: Allowed,
    told: Callable[[int], None],
    *,
    known: KnownForeign,
    dry_run: bool,
) -> Rebuilt:
    """Rebuild the store in this folder from EVENTS, put the old one aside, and return the counts.

    The service must not run. `told` is called with the number of messages of each chunk. `known`: the foreign messages
    that a person has acknowledged. `dry_run`: check everything, but replace nothing.

    Raises SettingsError (the service runs, something reads its store, or the folder cannot be used), ConsumerFailed,
    ArchiveDamaged, the client's errors, OSError, Unreachable (the new store cannot be written), StoreSetupError (the id
    of the store is damaged).
    Raises Found: the stream is not whole or contradicts the old store, or facts would be lost that may not be. After an
    OSError the new store may be in place; after any other error the store has the same facts as before.
    """
    path = folder / "events.sqlite"
    with _stopped(service, folder):
        new = files.temporary(path)
        try:
            with new_store(new) as store:
                collected = await collect(stream, service, store, told, known=known, old=path)
                identity.assign(store, path, service)
                lost = _compare(store, path, service, allowed)
                _finish(store)
            aside = None if dry_run else _swap(new, path)
            return Rebuilt(service, lost=lost, aside=aside, dry_run=dry_run, **collected._asdict())
        finally:
            new.unlink(missing_ok=True)


@contextlib.contextmanager
def _stopped(service: str, folder: Path) -> Iterator[None]:
    """Hold the service's lock during the block, so that the service cannot be started.

    Makes the folder if missing. Raises SettingsError if the service runs or the folder cannot be used.
    """
    with contextlib.ExitStack() as stack:
        try:
            files.make_folder(folder)
            stack.enter_context(exclusive_lock(folder / "lock"))
        except LockTaken as holder:
            raise SettingsError(f"{service}_svc is running on {folder} ({holder}): stop it first") from None
        except OSError as error:
            raise SettingsError(f"{folder} cannot be used: {error.strerror}") from error
        yield


def _compare(new: sqlite3.Connection, path: Path, service: str, allowed: Allowed) -> int:
    """Compare the old store (at `path`) with the new one, and return how many facts only the old one has.

    0 without an old store, or if it cannot be read and `allowed` says so. The old store's write-ahead log is moved into
    its file. Raises Found if a loss is not allowed, or if the two have different facts at a position; SettingsError if
    another process reads the old store for seconds.
    """
    if not path.exists():
        return 0
    try:
        new.execute("ATTACH ? AS old", (str(path),))
        differing = new.execute(
            "SELECT old.rowid, old.originator_id, old.originator_version, new.rowid IS NULL"
            " FROM old.stored_events AS old LEFT JOIN main.stored_events AS new ON new.rowid = old.rowid"
            " WHERE new.rowid IS NULL OR (old.originator_id, old.originator_version, old.topic, old.state)"
            " IS NOT (new.originator_id, new.originator_version, new.topic, new.state) ORDER BY old.rowid"
        ).fetchall()
        # Moves the content of the write-ahead log into the file, which has to be whole without it while it is replaced.
        is_busy, *_ = new.execute("PRAGMA old.wal_checkpoint(TRUNCATE)").fetchone()
        new.execute("DETACH old")
    except sqlite3.DatabaseError as error:
        if not allowed.damaged:
            raise Found(
                f"the store of {service}_svc cannot be read: {error}. Facts that only it has would be "
                "lost; to accept that: --lose-damaged"
            ) from error
        return 0
    if is_busy:
        raise SettingsError(
            f"another process reads {path}, so it cannot be replaced now: stop that process, such as an audit or a "
            "backup, or wait for its end"
        )
    other = [row for row in differing if not row[3]]
    if other:
        position, stream, version, _ = other[0]
        raise Found(
            f"position {position} of {service}_svc's log is {fact_id(stream, version)} in the store and something else "
            "in the stream: find out which one is right (`just audit`)"
        )
    if differing and not allowed.unpublished:
        position, stream, version, _ = differing[0]
        raise Found(
            f"{len(differing):,} facts of {service}_svc are not in the stream, from {fact_id(stream, version)} at "
            f"position {position} on: start the service: its relay publishes them. To lose them: --lose-unpublished"
        )
    return len(differing)


def _finish(store: sqlite3.Connection) -> None:
    """Set the new store to the journal mode that services use. Detach the old store if it is still attached."""
    with contextlib.suppress(sqlite3.OperationalError):
        store.execute("DETACH old")  # still attached if it could not be read
    store.execute("PRAGMA journal_mode=WAL")


def _swap(new: Path, path: Path) -> Path | None:
    """Replace the old store by the new one, durably. Returns the folder with the old files; None: there were none.

    After a crash at any moment one of the two stores is in place. Read models are put aside, too; the service makes
    them again.
    """
    files.sync_file(new)
    parts = [file for file in (*journals(path), *sorted(path.parent.glob("*.view.sqlite*"))) if file.exists()]
    if not path.exists() and not parts:
        files.rename(new, path)
        files.sync_folder(path.parent)
        return None
    aside = path.parent / moved_folder_name()
    files.make_folder(aside)
    for part in parts:
        # A write-ahead log must be gone before its name belongs to another store.
        files.rename(part, aside / part.name)
    if path.exists():
        _keep(path, aside / path.name)
    files.sync_folder(aside)
    files.rename(new, path)
    files.sync_folder(path.parent)
    return aside


def _keep(path: Path, aside: Path) -> None:
    """Give the old store the second name `aside`, or a copy, so that there is no moment without a store."""
    try:
        os.link(path, aside)
    except OSError:  # some file systems have no links
        shutil.copyfile(path, aside)
        files.sync_file(aside)
