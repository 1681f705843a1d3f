"""Compares all files of the archive with the checksums in its manifests, for a full audit."""

import asyncio
from typing import Final

from infra.archive.errors import ArchiveDamaged, ArchiveUnreachable
from infra.archive.manifest import WAY_OUT, ArchivedFile
from infra.archive.places import ArchivePlace
from ops.errors import Found
from ops.progress import Watch
from ops.reading import Stream

SHOWN: Final = 10


async def check_files(stream: Stream, watch: Watch) -> None:
    """Read all files of the archive, if there is one. Raises Found if some are not what their manifest says.

    Found names the first SHOWN (10) of them. Most damage stops any reader of the archive at once; other bytes for the
    same messages, or a changed index, do not. Raises ArchiveUnreachable.
    """
    if stream.archive is None:
        return
    files = [(manifest.stream, file) for manifest in stream.archived for file in manifest.files]
    watch.begins("checking the files of the archive", len(files))
    wrong: list[str] = []
    for name, file in files:
        if why := await asyncio.to_thread(_wrong, stream.archive.place, name, file):
            wrong.append(why)
        watch.advances(1)
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise Found(f"the archive is damaged: {'; '.join(wrong[:SHOWN])}{more}. {WAY_OUT}")


def _wrong(place: ArchivePlace, stream: str, file: ArchivedFile) -> str:
    """Return what is wrong with a file of this generation's `stream`, in words; empty: nothing is.

    Raises ArchiveUnreachable.
    """
    where = place.where(stream, file)
    try:
        found = place.described(stream, file)
    except ArchiveUnreachable:
        raise
    except ArchiveDamaged as error:
        return str(error).removesuffix(f". {WAY_OUT}")
    except OSError as error:
        return f"{where} cannot be read: {error.strerror}"
    return "" if found == file else f"{where} is not what its manifest says"
