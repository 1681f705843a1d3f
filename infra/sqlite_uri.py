"""Makes the URI by which SQLite opens a file for reading only."""

from pathlib import Path


def read_only_uri(path: Path, *, immutable: bool = False) -> str:
    """Return the URI that opens an existing file for reading, whatever characters its path has.

    `immutable`: SQLite assumes that nobody writes the file meanwhile, and reads no write-ahead log beside it.
    """
    return f"{path.absolute().as_uri()}?mode=ro" + ("&immutable=1" if immutable else "")
