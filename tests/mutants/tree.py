"""A copy of the repository in a temporary folder: mutants are never written into the work tree."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

CONFIGURED: Final = frozenset({".github", ".ci", ".gitignore"})
"""What tests read of the files whose names begin with a dot."""


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A copy of the files that make up the repository: without caches, data and environments."""
    with TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder).resolve() / "tree"
        shutil.copytree(root, tree, ignore=_left_out)
        yield tree


def _left_out(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or (name.startswith(".") and name not in CONFIGURED)}


@contextmanager
def replaced(path: Path, source: str) -> Iterator[None]:
    """Have a file read `source`, until the end."""
    was = path.read_bytes()
    try:
        _write(path, source.encode())
        yield
    finally:
        _write(path, was)


def _write(path: Path, content: bytes) -> None:
    """Python takes compiled code for current by whole seconds and size, so it goes first."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
    path.write_bytes(content)


def digest(path: Path) -> str:
    """Of a file's content; empty if there is none."""
    return sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
