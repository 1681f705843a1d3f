"""Which code runs: its version and commit, for `saga_build_info`."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

PACKAGE: Final = "saga"
UNKNOWN: Final = "unknown"


def installed_version() -> str:
    """Return the installed version of this system's package; UNKNOWN if it is not installed."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return UNKNOWN


def commit_of(root: Path) -> str:
    """Return the first 12 hex digits of the commit that is checked out in this folder; UNKNOWN if none is found."""
    git = root / ".git"
    try:
        if git.is_file():  # a work tree: the file names its folder
            git = root / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head[:12] or UNKNOWN
        branch = head.removeprefix("ref:").strip()
        shared = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
        if (shared / branch).exists():
            return (shared / branch).read_text().strip()[:12]
        packed = (line.split() for line in (shared / "packed-refs").read_text().splitlines())
        return next((found[0][:12] for found in packed if found[1:] == [branch]), UNKNOWN)
    except (OSError, ValueError):  # it is not even text
        return UNKNOWN
