"""Writes a generation's messages into files of the archive. Readers ignore files that no manifest names."""

import gzip
import hashlib
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from infra import files
from infra.archive.lines import ArchivedMessage, key_of, line
from infra.archive.manifest import INDEX, ArchivedFile

BLOCK_MESSAGES: Final = 1_000
BLOCK_BYTES: Final = 4 << 20
PART_BYTES: Final = 64 << 20
LEVEL: Final = 6
"""Of gzip. The standard library's best is a few percent smaller, and takes several times as long."""

SCHEMA: Final = """
PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
CREATE TABLE blocks (number INTEGER PRIMARY KEY, part TEXT, offset INTEGER, size INTEGER, first INTEGER, last INTEGER,
    last_ns INTEGER);
CREATE TABLE keys (key TEXT, block INTEGER, PRIMARY KEY (key, block)) WITHOUT ROWID;
"""


class FileWriter:
    """Writes the files of one generation into its folder. Call `finish` inside its `with`.

    The constructor removes what is in the folder, such as the files of a run before. Every method raises OSError or
    sqlite3.Error.
    """

    def __init__(self, folder: Path, *, block_messages: int = BLOCK_MESSAGES, part_bytes: int = PART_BYTES) -> None:
        self._folder = folder
        self._block_messages = block_messages
        self._part_bytes = part_bytes
        self._parts: list[Path] = []
        self._offset = 0
        self._blocks = 0
        self._lines: list[bytes] = []
        self._bytes = 0
        self._open: list[ArchivedMessage] = []
        if folder.exists():
            shutil.rmtree(folder)
        files.make_folder(folder)
        self._index = sqlite3.connect(folder / INDEX, isolation_level=None)
        self._index.executescript(SCHEMA)
        self._index.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._index.close()

    def add(self, messages: Iterable[ArchivedMessage]) -> None:
        """Write messages, after all earlier ones: sequences have to rise. The last wait for more, or for `finish`."""
        for message in messages:
            self._open.append(message)
            self._lines.append(line(message))
            self._bytes += len(self._lines[-1])
            if len(self._lines) >= self._block_messages or self._bytes >= BLOCK_BYTES:
                self._end_block()

    def _end_block(self) -> None:
        if not self._lines:
            return
        if not self._parts or self._offset >= self._part_bytes:
            self._parts.append(self._folder / f"part-{len(self._parts):03}.jsonl.gz")
            self._offset = 0
        part, member = self._parts[-1], gzip.compress(b"".join(self._lines), LEVEL, mtime=0)
        with part.open("ab") as file:
            file.write(member)
        first, last = self._open[0].sequence, self._open[-1].sequence
        newest = max(one.stored_ns for one in self._open)
        place = (self._blocks, part.name, self._offset, len(member), first, last, newest)
        self._index.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", place)
        keys = {key_of(one.subject) for one in self._open}
        self._index.executemany("INSERT INTO keys VALUES (?, ?)", [(key, self._blocks) for key in sorted(keys)])
        self._offset += len(member)
        self._blocks += 1
        self._lines, self._bytes, self._open = [], 0, []

    def finish(self) -> list[ArchivedFile]:
        """End the files, durably; then read them again, and return their sizes and checksums, the index's last."""
        self._end_block()
        self._index.execute("COMMIT")
        self._index.close()
        written = [*self._parts, self._folder / INDEX]
        for path in written:
            path.chmod(files.PRIVATE)
            files.sync_file(path)
        files.sync_folder(self._folder)
        return [described(path) for path in written]


def described(path: Path) -> ArchivedFile:
    """Return the name, size and checksum of a file. Raises OSError."""
    with path.open("rb") as file:
        return ArchivedFile(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
