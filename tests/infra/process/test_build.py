"""Which code runs, as a clone or a work tree says; what cannot be read is unknown, and stops no service."""

from pathlib import Path

import pytest

from infra.process.build import UNKNOWN, commit_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_branch_a_packed_branch_and_a_commit_are_read(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{COMMIT}\n")
    assert commit_of(tmp_path) == COMMIT[:12]

    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n\n{COMMIT} refs/heads/main\n")
    assert commit_of(tmp_path) == COMMIT[:12]

    (git / "refs" / "heads" / "main").write_text(COMMIT[::-1])
    assert commit_of(tmp_path) == COMMIT[::-1][:12]


@pytest.mark.parametrize("head", [None, b"", b"\xff\xfe", b"ref: refs/heads/none", b"ref: a\x00b"])
def test_what_cannot_be_read_is_unknown(head: bytes | None, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    if head is not None:
        (tmp_path / ".git" / "HEAD").write_bytes(head)

    assert commit_of(tmp_path) == UNKNOWN
