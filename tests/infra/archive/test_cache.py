"""Several processes have one cache of the archive's files: none takes away what another one needs just now."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from infra.archive.cache import FileCache
from infra.archive.manifest import INDEX, ArchivedFile
from infra.archive.places import Folder
from infra.archive.reader import Archive
from tests.infra.archive.test_archive import archived

ONE, TWO = b"1" * 2_000, b"2" * 2_000


def described(name: str, content: bytes) -> ArchivedFile:
    return ArchivedFile(name, len(content), hashlib.sha256(content).hexdigest())


def test_a_full_cache_keeps_what_another_process_writes_and_not_what_a_killed_one_left(tmp_path: Path) -> None:
    folder, source = tmp_path / "files", tmp_path / "two"
    source.write_bytes(TWO)
    left = folder / ".of-a-killed-process.tmp"

    def read(_offset: int, _size: int) -> bytes:
        left.touch()
        FileCache(folder, 1_000).add(described("two", TWO), source)
        assert not left.exists()
        return ONE

    assert FileCache(folder, 1_000).path(described("one", ONE), read).read_bytes() == ONE
    assert [path.name for path in folder.iterdir()] == [described("one", ONE).sha256]


def test_a_copy_that_is_changed_in_place_after_its_check_is_not_used(tmp_path: Path) -> None:
    """Its size stays; other processes use it meanwhile, which changes nothing in it."""
    reads: list[int] = []

    def read(offset: int, size: int) -> bytes:
        reads.append(offset)
        return ONE[offset : offset + size]

    cache, file = FileCache(tmp_path, 10_000), described("one", ONE)
    copy = cache.path(file, read)
    FileCache(tmp_path, 10_000).path(file, read)
    assert cache.path(file, read) == copy
    assert len(reads) == 1

    with copy.open("r+b") as opened:
        opened.write(b"x")
    written = copy.stat()
    os.utime(copy, ns=(written.st_atime_ns, written.st_mtime_ns + 1))  # as after a tick of its clock

    assert cache.path(file, read).read_bytes() == ONE
    assert len(reads) == 2


def test_a_copy_is_compared_once_however_often_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, file, compared = tmp_path / "source", described("one", ONE), list[Path]()
    source.write_bytes(ONE)
    FileCache(tmp_path / "files", 10_000).add(file, source)

    def digest(path: Path) -> str:
        compared.append(path)
        return file.sha256

    monkeypatch.setattr("infra.archive.cache._digest", digest)
    cache = FileCache(tmp_path / "files", 10_000)

    for _ in range(3):
        cache.path(file, lambda *_: pytest.fail("it is there"))

    assert len(compared) == 1


class Contended(Folder):
    """A place elsewhere, the first copy of whose index is removed before it is opened."""

    near = False
    copies = 0

    def whole(self, stream: str, file: ArchivedFile) -> Path:
        if file.name != INDEX:
            return super().whole(stream, file)
        self.copies += 1
        copy = self.path / f"copy-{self.copies}"
        if self.copies > 1:
            shutil.copyfile(super().whole(stream, file), copy)
        return copy


def test_an_index_whose_copy_was_removed_just_before_is_copied_again(tmp_path: Path) -> None:
    manifest = archived(tmp_path)
    place = Contended(tmp_path)

    assert sum(len(chunk) for chunk in Archive(place).read(manifest)) == 10
    assert place.copies == 2
