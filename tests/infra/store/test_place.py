"""A store's files that are not to be seen any more: it is said whether they are gone, or cannot be looked at."""

import errno
import os
from pathlib import Path

import pytest

from infra.store.place import StoreFiles


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOENT, "events.sqlite was deleted or moved away under the running service, so nothing is recorded"),
        (errno.EACCES, "events.sqlite cannot be looked at any more: Permission denied, so nothing is recorded"),
        (errno.EIO, "events.sqlite cannot be looked at any more: Input/output error, so nothing is recorded"),
    ],
)
def test_only_what_is_gone_is_said_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    path = tmp_path / "events.sqlite"
    path.touch()
    path.with_name("events.sqlite-wal").touch()
    place = StoreFiles(path, "point")
    place.remember()

    def failing(self: Path) -> os.stat_result:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "stat", failing)

    assert not place.look()
    assert place.trouble is not None
    assert said in place.trouble
