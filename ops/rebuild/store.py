"""A service's store, dropped and rebuilt from the stream; what it had is kept aside, and is whole at every moment."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from contracts.wire import fact_id
from infra import files
from infra.files import LockTaken, exclusive_lock
from infra.settings import SettingsError
from ops.errors import Found
from ops.reading import Stream
from ops.rebuild.collecting import collect, journals, new_store


class Rebuilt(Struct):
    """`facts` in the store that was made; `lost`: how many of the old one are not in it; `aside`: where that is now."""

    service: str
    facts: int
    lost: int
    aside: Path | None
    dry_run: bool


class Allowed(Struct, frozen=True):
    """What may be lost: facts that only the store has, and whatever a store had that cannot be read any more."""

    unpublished: bool = False
    damaged: bool = False


async def rebuild(
    stream: Stream, service: str, folder: Path, allowed: Allowed, told: Callable[[int], None], *, dry_run: bool
) -> Rebuilt:
    """Rebuild the store in this folder, whose service must not run; `told`: messages read so far.

    Raises SettingsError (the service runs, or the folder cannot be used), Found (the stream is not whole, or something
    would be lost that may not be), and the client's errors; the store is then as it was.
    """
    path = folder / "events.sqlite"
    with _stopped(service, folder):
        new = files.temporary(path)
        try:
            with new_store(new) as store:
                facts = await collect(stream, service, store, told)
                lost = _compare(store, path, service, allowed)
                _finish(store)
            if dry_run:
                return Rebuilt(service, facts, lost, None, dry_run)
            return Rebuilt(service, facts, lost, _swap(new, path), dry_run)
        finally:
            new.unlink(missing_ok=True)


@contextlib.contextmanager
def _stopped(service: str, folder: Path) -> Iterator[None]:
    """The service does not run, and cannot be started meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            files.make_folder(folder)
            stack.enter_context(exclusive_lock(folder / "lock"))
        except LockTaken:
            raise SettingsError(f"{service}_svc is running on {folder}: stop it first") from None
        except OSError as error:
            raise SettingsError(f"{folder} cannot be used: {error.strerror}") from error
        yield


def _compare(new: sqlite3.Connection, path: Path, service: str, allowed: Allowed) -> int:
    """How many facts of the old store the new one has not. Raises Found if they may not be lost."""
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
        new.execute("PRAGMA old.wal_checkpoint(TRUNCATE)")  # what is only in the write-ahead log belongs to the file
        new.execute("DETACH old")
    except sqlite3.DatabaseError as error:
        if not allowed.damaged:
            raise Found(
                f"the store of {service}_svc cannot be read: {error}. What it has and the stream has not would "
                "be lost; if that may be: --lose-damaged"
            ) from error
        return 0
    other = [row for row in differing if not row[3]]
    if other:
        position, stream, version, _ = other[0]
        raise Found(
            f"position {position} of {service}_svc's log is {fact_id(stream, version)} in the store and something else "
            "in the stream: find out which is right (`orders audit`)"
        )
    if differing and not allowed.unpublished:
        position, stream, version, _ = differing[0]
        raise Found(
            f"{len(differing):,} facts of {service}_svc are not in the stream, from {fact_id(stream, version)} at "
            f"position {position} on: start the service, its relay writes them; or lose them: --lose-unpublished"
        )
    return len(differing)


def _finish(store: sqlite3.Connection) -> None:
    """Leave it as a service leaves its store."""
    with contextlib.suppress(sqlite3.OperationalError):
        store.execute("DETACH old")  # still attached if it could not be read
    store.execute("PRAGMA journal_mode=WAL")


def _swap(new: Path, path: Path) -> Path | None:
    """Put the new store in the place of the old one, which goes aside; a crash leaves the one or the other.

    Read models go aside as well, and are made again.
    """
    files.sync_file(new)
    parts = [file for file in (*journals(path), *sorted(path.parent.glob("*.view.sqlite*"))) if file.exists()]
    if not path.exists() and not parts:
        files.rename(new, path)
        files.sync_folder(path.parent)
        return None
    aside = path.parent / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    files.make_folder(aside)
    for part in parts:
        # A write-ahead log must be gone before there is another file that it does not belong to.
        files.rename(part, aside / part.name)
    if path.exists():
        _keep(path, aside / path.name)
    files.sync_folder(aside)
    files.rename(new, path)
    files.sync_folder(path.parent)
    return aside


def _keep(path: Path, aside: Path) -> None:
    """Under a second name, so that there is no moment without a store."""
    try:
        os.link(path, aside)
    except OSError:  # not every file system can
        shutil.copyfile(path, aside)
        files.sync_file(aside)
