"""Damages the file of a view while it is in use."""

from pathlib import Path

PAGE_BYTES = 4_096


def damage(file: Path) -> None:
    """Overwrite all pages but the first: SQLite then finds the file malformed as soon as it reads a table."""
    with file.open("r+b") as opened:
        size = opened.seek(0, 2)
        opened.seek(PAGE_BYTES)
        opened.write(b"\xee" * (size - PAGE_BYTES))
