"""Makes the URIs by which SQLite opens a file otherwise than for reading and writing."""

from pathlib import Path


def read_only_uri(path: Path, *, immutable: bool = False) -> str:
    """Return the URI that opens an existing file for reading, whatever characters its path has.

    `immutable`: nobody writes the file meanwhile, and a write-ahead log beside it is not read.
    """
    return f"{path.absolute().as_uri()}?mode=ro" + ("&immutable=1" if immutable else "")
