"""The lock of the archive's folder blames the folder only for what is the folder's."""

from pathlib import Path

import pytest

from infra.settings import Settings, SettingsError
from ops.archive.archiving import archive_lock


def test_a_reader_that_is_gone_is_no_fault_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), archive_lock(Settings(port=1, data_dir=tmp_path)):
        raise BrokenPipeError


def test_an_error_without_words_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match=r"archive cannot be used: TimeoutError$"),
        archive_lock(Settings(port=1, data_dir=tmp_path)),
    ):
        raise TimeoutError
