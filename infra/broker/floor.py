"""What the proven archive has, so that it need not be published or made again, whatever the broker lost.

The archive's manifests say it (`infra.archive`). In a folder they are looked at each time: that costs a listing. Those
of a bucket are read when they are first needed. Later they are read only if a missing generation or a label says that
the bucket has more than is known, or no stream is there: a bucket may be away while services run. What is known stays
true, since manifests are never changed, and only become more. `check_archive` also reads messages: see
`infra.broker.archive_label.check`.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from functools import cache

from nats.js.api import StreamInfo

from infra.archive.errors import ArchiveDamaged
from infra.archive.manifest import ArchivedLog
from infra.archive.reader import Archive
from infra.archive_settings import ArchiveSettings
from infra.broker.archive_label import check, unknown
from infra.broker.client import BrokerClient
from infra.broker.errors import ArchiveUnusable
from infra.broker.numbering import number_of
from infra.settings import Settings


def archived_log(settings: Settings, service: str) -> ArchivedLog:
    """Return what the archive has of the service's log: the relay publishes nothing up to its `until` again.

    Raises ArchiveUnusable if the archive cannot be used.
    """
    with _translated():
        return archive_of(settings).log_of(service)


def first_kept(settings: Settings) -> int:
    """Return the number of the generation after the last archived one: only earlier ones may be gone. 0: none may.

    Raises ArchiveUnusable if the archive cannot be used.
    """
    with _translated():
        return archive_of(settings).first_kept


async def check_archive(nc: BrokerClient, settings: Settings, infos: Sequence[StreamInfo]) -> None:
    """Look at the archive if it may have more than is known; compare it with these generations (`archive_label.check`).

    `infos` are those of all generations that the broker has, the oldest first. Raises ArchiveUnusable if the archive
    cannot be used, or is not the one that these generations know; the client's errors.
    """
    with _translated():
        await look_if_behind(nc, archive_of(settings), infos)


async def look_if_behind(nc: BrokerClient, archive: Archive, infos: Sequence[StreamInfo]) -> None:
    """Look at the archive if it may have more than is known; compare it with these generations (`archive_label.check`).

    `infos`: see `check_archive`. Raises ArchiveDamaged as `archive_label.check` does; the client's errors.
    """
    if not archive.place.near and not (archive.has_looked and infos and _is_known(archive, infos)):
        await asyncio.to_thread(archive.look)
    await check(nc, archive, infos)


def _is_known(archive: Archive, infos: Sequence[StreamInfo]) -> bool:
    oldest = number_of(str(infos[0].config.name)) or 0
    return oldest <= archive.first_kept and not unknown(archive, infos)


async def is_archived(settings: Settings, number: int) -> bool:
    """Return whether the generation with this number, or any later one, is archived.

    The broker no longer has that generation: so a bucket that is not known to have it is read again. Raises
    ArchiveUnusable if the archive cannot be used.
    """
    archive = archive_of(settings)
    with _translated():
        if not archive.place.near and archive.first_kept <= number:
            await asyncio.to_thread(archive.look)
        return number < archive.first_kept


def archive_of(settings: Settings) -> Archive:
    """Return the archive that these settings name; the same object each time."""
    return _of(ArchiveSettings(**{name: getattr(settings, name) for name in ArchiveSettings.__struct_fields__}))


@cache
def _of(settings: ArchiveSettings) -> Archive:
    if settings.archive_bucket is None:
        return Archive(settings.archive.absolute())
    from infra.archive.bucket import Bucket  # noqa: PLC0415 - an extra

    return Archive(Bucket(settings))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ArchiveDamaged as error:
        raise ArchiveUnusable(str(error)) from error
