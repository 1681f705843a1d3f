"""The archive's label on the streams that stay: which generation left the broker last, and its manifest's SHA-256.

It is in the streams' metadata. An archive may be missing, as where a file system is not mounted, or on another machine;
it may be an old copy, or another system's. Without the label, services would publish again what is archived, or take
foreign facts for archived. Before a generation is deleted, all later streams get its label.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from nats.js import JetStreamContext
from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from infra.archive.errors import ArchiveDamaged
from infra.archive.manifest import GenerationManifest
from infra.archive.reader import Archive
from infra.broker.client import BrokerClient
from infra.broker.numbering import number_of
from infra.broker.stored import stored_message

KEY: Final = "archived"
"""The name of the label in a stream's metadata."""


async def check(nc: BrokerClient, archive: Archive, infos: Sequence[StreamInfo]) -> None:
    """Compare the archive with the labels on these generations, and with those of them that are archived, too.

    Of a bucket, the manifests of the last look count. Of an archived generation that the broker still has, the last
    message's time is compared; one whose archived files cannot be read is passed over. Raises ArchiveDamaged if the
    manifests cannot be read, the archive lacks what a label names, or has another generation of the same name; the
    client's errors.
    """
    place = archive.place
    for label in unknown(archive, infos):
        stream = label.partition(" ")[0]
        has = "another one of that name" if archive.of(number_of(stream) or 0) else "not that one"
        raise ArchiveDamaged(
            f"{stream[:100]} is archived, but the archive {place.title} has {has}. Mount or copy the right archive "
            f"there, or set {place.setting}; nothing is read or written before. If it is lost for good: just archive "
            "--lost"
        )
    for info in infos:
        manifest = archive.of(number_of(str(info.config.name)) or 0)
        if manifest is None:
            continue
        try:
            its = await stored_message(nc, manifest.stream, info.state.last_seq)
        except NotFoundError:  # it has left the broker since
            continue
        if its is None:
            continue
        try:
            archived_ns = await asyncio.to_thread(_stored_ns, archive, manifest, its.sequence)
        except ArchiveDamaged:  # of that generation: its readers say so
            continue
        if archived_ns != its.stored_ns:  # a restored stream keeps the times of its messages, not its own
            raise ArchiveDamaged(
                f"the archive {place.title} has another {manifest.stream} than the broker, by the message at sequence "
                f"{its.sequence}: is it another system's? Set {place.setting}; nothing is read or written before"
            )


def unknown(archive: Archive, infos: Sequence[StreamInfo]) -> list[str]:
    """Return the labels on these generations that name what the archive (a bucket: by the last look) has not; sorted.

    A label is `<stream> <its manifest's SHA-256>`. Raises ArchiveDamaged if the manifests cannot be read.
    """
    have = {_label(archive, one) for one in archive.manifests}
    labels = {(info.config.metadata or {}).get(KEY) for info in infos}
    return sorted(label for label in labels if label is not None and label not in have)


def _stored_ns(archive: Archive, manifest: GenerationManifest, sequence: int) -> int | None:
    found = archive.read(manifest, first=sequence, last=sequence)
    return next((one.stored_ns for messages in found for one in messages), None)


async def put(js: JetStreamContext, streams: Sequence[str], archive: Archive, of: GenerationManifest) -> None:
    """Label these streams, in place of the label before: the generation `of` leaves the broker next.

    Raises ArchiveDamaged if the archive (of a bucket: by the last look) lacks `of`: no archive would fit such a label.
    Raises the client's errors.
    """
    if not archive.digest_of(of.number):
        place = archive.place
        raise ArchiveDamaged(
            f"the archive {place.title} has not {of.stream}, which was to leave the broker. Mount or copy the right "
            f"archive there, or set {place.setting}"
        )
    for stream in streams:
        config = (await js.stream_info(stream)).config
        config.metadata = {**(config.metadata or {}), KEY: _label(archive, of)}
        await js.update_stream(config)


async def remove(js: JetStreamContext, streams: Sequence[str]) -> None:
    """Remove the label from these streams. Raises the client's errors."""
    for stream in streams:
        config = (await js.stream_info(stream)).config
        config.metadata = {key: value for key, value in (config.metadata or {}).items() if key != KEY}
        await js.update_stream(config)


def _label(archive: Archive, of: GenerationManifest) -> str:
    return f"{of.stream} {archive.digest_of(of.number)}"
