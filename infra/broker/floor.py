"""What the proven archive has, so that nothing of it is published or made again, whatever the broker lost.

The archive's manifests say it (`infra.archive`). They are looked at each time: a look costs a listing of their folder.
"""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

from infra.archive.errors import ArchiveDamaged
from infra.archive.folder import Archive
from infra.archive.manifest import ArchivedLog
from infra.archive_settings import ArchiveSettings
from infra.broker.errors import BrokerMisconfigured
from infra.settings import Settings

T = TypeVar("T")


def archived_log(settings: Settings, service: str) -> ArchivedLog:
    """Return what the archive has of the service's log: nothing up to `until` is published again.

    Raises BrokerMisconfigured if the archive cannot be used.
    """
    return _read(lambda: archive_of(settings).log_of(service))


def first_kept(settings: Settings) -> int:
    """Return the number of the first generation that no archive has: only earlier ones may be gone.

    Raises BrokerMisconfigured if the archive cannot be used.
    """
    return _read(lambda: archive_of(settings).first_kept)


def archive_of(settings: Settings) -> Archive:
    """Return the archive of these settings; of equal ones, the same."""
    return _of(ArchiveSettings(**{name: getattr(settings, name) for name in ArchiveSettings.__struct_fields__}))


@cache
def _of(settings: ArchiveSettings) -> Archive:
    if settings.archive_bucket is None:
        return Archive(settings.archive.absolute())
    from infra.archive.bucket import Bucket  # noqa: PLC0415 - an extra

    return Archive(Bucket(settings))


def _read(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except ArchiveDamaged as error:
        raise BrokerMisconfigured(str(error)) from error
