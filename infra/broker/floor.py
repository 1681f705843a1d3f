"""What the proven archive has, so that it need not be published or made again, whatever the broker lost.

The archive's manifests say it (`infra.archive`). They are looked at each time: a look costs a listing of their folder.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from nats.js.api import StreamInfo

from infra.archive.errors import ArchiveDamaged
from infra.archive.folder import Archive
from infra.archive.manifest import ArchivedLog
from infra.broker.archive_label import check
from infra.broker.client import BrokerClient
from infra.broker.errors import BrokerMisconfigured
from infra.settings import Settings

T = TypeVar("T")


def archived_log(settings: Settings, service: str) -> ArchivedLog:
    """Return what the archive has of the service's log: nothing up to `until` is published again.

    Raises BrokerMisconfigured if the archive cannot be used.
    """
    return _read(lambda: archive_of(settings).log_of(service))


def first_kept(settings: Settings) -> int:
    """Return the number of the generation after the last archived one: only earlier ones may be gone.

    Raises BrokerMisconfigured if the archive cannot be used.
    """
    return _read(lambda: archive_of(settings).first_kept)


async def check_archive(nc: BrokerClient, settings: Settings, infos: Sequence[StreamInfo]) -> None:
    """Raise BrokerMisconfigured if the archive of these settings is not the one that these generations know.

    Raises the client's errors.
    """
    try:
        await check(nc, archive_of(settings), infos)
    except ArchiveDamaged as error:
        raise BrokerMisconfigured(str(error)) from error


def archive_of(settings: Settings) -> Archive:
    """Return the archive of these settings; of equal ones, the same."""
    return _at(settings.archive.absolute())


@cache
def _at(folder: Path) -> Archive:
    return Archive(folder)


def _read(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except ArchiveDamaged as error:
        raise BrokerMisconfigured(str(error)) from error
