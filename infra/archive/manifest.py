"""The manifest of an archived generation: what its files have. It is written after the files are proven, never before.

So a generation with a manifest is archived, and one without is not, whatever files there are. Each manifest has the
SHA-256 of the one before it, and of each of its files.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from infra.archive.errors import ArchiveDamaged

FORMAT: Final = 1

INDEX: Final = "index.sqlite"
"""The file with the places of all blocks, and of the blocks by key."""


class ArchivedFile(Struct, frozen=True):
    """A file of the archive, by its name in the generation's folder: its size in bytes, and its SHA-256 in hex."""

    name: str
    bytes: int
    sha256: str


class LogRange(Struct, frozen=True):
    """What a generation has of a service's log: runs of positions, each as its first and its last, in rising order.

    `facts`: how many messages have facts of this service, repeats included. `last_id`: the id of the fact at the last
    position.
    """

    runs: list[tuple[int, int]]
    facts: int
    last_id: str

    @property
    def last(self) -> int:
        """The highest position."""
        return self.runs[-1][1]


class NameCount(Struct, frozen=True):
    """How many messages of one name (subject without key) a generation has, foreign ones included.

    `last`: the sequence of the last one. `stored_us`: when the broker stored it, in microseconds since 1970 (UTC).
    """

    messages: int
    last: int
    stored_us: int


class GenerationManifest(Struct, frozen=True, kw_only=True):
    """What the archive has of one generation. `stream`: the name of its stream; `created`: when that was made, as text.

    `archived_at`: when this manifest was made, as text. `messages`: how many messages the generation has in all.
    `foreign`: how many of these no service published. `removed`: how many sequences had no message. `logs`: by service.
    `names`: by subject without key. `previous`: the SHA-256 of the manifest before; empty in the first one. `chain`:
    see `chain_of`.
    """

    format: int
    number: int
    stream: str
    created: str
    archived_at: str
    first_sequence: int
    last_sequence: int
    messages: int
    foreign: int
    removed: int
    logs: dict[str, LogRange]
    names: dict[str, NameCount]
    files: list[ArchivedFile]
    previous: str
    chain: str


class ArchivedLog(NamedTuple):
    """What the whole archive has of a service's log: all positions through `until`, and the highest one, `last`.

    They differ while the archive lacks a fact before `last`. `last_id`: the id of the fact at `last`. 0, 0 and an empty
    id: the archive has nothing of the log.
    """

    until: int = 0
    last: int = 0
    last_id: str = ""


_decoder: Final = msgspec.json.Decoder(GenerationManifest)
_NAME: Final = re.compile(r"EVENTS(?:_[1-9][0-9]*)?\.json")


def file_name(stream: str) -> str:
    """Return the file name of the manifest of the generation whose stream has this name."""
    return f"{stream}.json"


def is_manifest(name: str) -> bool:
    """Whether a file of this name is a manifest."""
    return _NAME.fullmatch(name) is not None


def encoded(manifest: GenerationManifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def digest(content: bytes) -> str:
    """Return the SHA-256 (hex) of a manifest's file."""
    return hashlib.sha256(content).hexdigest()


def chain_of(previous: str, files: Iterable[ArchivedFile]) -> str:
    """Return one SHA-256 (hex) over `previous`, the SHA-256 of the manifest before, and over these files.

    Of each file it takes name, size and SHA-256, in their order.
    """
    chain = hashlib.sha256(previous.encode())
    for file in files:
        chain.update(f"\n{file.name} {file.bytes} {file.sha256}".encode())
    return chain.hexdigest()


def decoded(contents: Sequence[tuple[str, bytes]]) -> list[GenerationManifest]:
    """Decode manifests, given as the name and content of each file, the oldest generation first.

    Raises ArchiveDamaged if one cannot be read or has another format, or if they are not one chain. Generation numbers
    only have to rise: one that the broker lost before it was archived has no manifest.
    """
    manifests: list[GenerationManifest] = []
    previous = ""
    for name, content in contents:
        try:
            manifest = _decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArchiveDamaged(f"the manifest {name} cannot be read: {error}. {WAY_OUT}") from error
        if manifest.format != FORMAT:
            raise ArchiveDamaged(
                f"the manifest {name} has format {manifest.format}, and this version reads {FORMAT}: use the version "
                "that wrote it, or a newer one"
            )
        if manifests and manifest.number <= manifests[-1].number:
            raise ArchiveDamaged(f"the manifest {name} is not the one of its name. {WAY_OUT}")
        if manifest.previous != previous or manifest.chain != chain_of(previous, manifest.files):
            raise ArchiveDamaged(f"the manifest {name}, or the one before it, was changed or is missing. {WAY_OUT}")
        manifests.append(manifest)
        previous = digest(content)
    return manifests


WAY_OUT: Final = "Put a copy of the archive back (just restore, or your own copy); nothing is read or written before"


def log_of(manifests: Iterable[GenerationManifest], service: str) -> ArchivedLog:
    """Return what these generations, from the first one on, have of a service's log."""
    ranges = [one for manifest in manifests if (one := manifest.logs.get(service)) is not None]
    if not ranges:
        return ArchivedLog()
    newest = max(ranges, key=lambda one: one.last)
    return ArchivedLog(_whole_until(run for one in ranges for run in one.runs), newest.last, newest.last_id)


def _whole_until(runs: Iterable[tuple[int, int]]) -> int:
    until = 0
    for first, last in sorted(runs):
        if first > until + 1:
            break
        until = max(until, last)
    return until


def missing_before(manifests: Sequence[GenerationManifest], of: GenerationManifest) -> list[str]:
    """Return a text for each service whose log has a gap in `manifests` before its last position in `of`.

    The text names the gap's first position and the service. A later generation has those facts or will have them: a
    relay publishes what an older one lost into the newest.
    """
    untils = {service: (log_of(manifests, service).until, one.last) for service, one in of.logs.items()}
    return [f"position {until + 1} of {service}_svc's log" for service, (until, last) in untils.items() if until < last]
