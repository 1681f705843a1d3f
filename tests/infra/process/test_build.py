"""The commit that the code was checked out from is read from the clone's own files, whatever is in them."""

from pathlib import Path

import pytest

from infra.process.build import UNKNOWN, commit_of


def test_the_commit_of_a_clone_is_that_of_its_branch(tmp_path: Path) -> None:
    (tmp_path / ".git" / "refs").mkdir(parents=True)
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/main\n")
    (tmp_path / ".git" / "refs" / "main").write_text("0123456789abcdef\n")

    assert commit_of(tmp_path) == "0123456789ab"


@pytest.mark.parametrize("head", [b"\xff\xfe", b"ref: refs/missing\n"])
def test_a_clone_that_cannot_be_read_has_no_known_commit(tmp_path: Path, head: bytes) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(head)

    assert commit_of(tmp_path) == UNKNOWN
