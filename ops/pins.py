"""`python -m ops.pins`: copy the versions that pyproject.toml does not pin itself from requirements.lock into it.

With them, `uv run` and `uv sync` resolve to the versions that CI installs; uv reads no requirements.lock for a project.
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from infra.local.services import ROOT

ENTRY: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(?: ; ([^\\\n]*[^\\\s]))?", re.MULTILINE)
"""An entry of the lock: name, version, and environment marker, if any."""

LIST: Final = r"(?<=^{key} = \[\n)(?:    .*\n)*(?=\]$)"


def pinned(project: dict[str, Any]) -> Iterator[str]:
    """Yield the names of all packages that pyproject.toml requires, its build backend included.

    Each requirement must be `name==version`.
    """
    requirements = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *(one for group in project["dependency-groups"].values() for one in group),
        *project["build-system"]["requires"],
    ]
    return (requirement.partition("==")[0] for requirement in requirements)


def constraints(lock: str, project: dict[str, Any]) -> dict[str, list[str]]:
    """Return two lists of [tool.uv] by name, with the lock's entries that belong there, as requirements without hashes.

    `constraint-dependencies` has what pyproject.toml does not pin itself; `build-constraint-dependencies` has what its
    build backend requires.
    """
    own = set(pinned(project))
    (backend,) = (requirement.partition("==")[0] for requirement in project["build-system"]["requires"])
    required = {re.split(r"[^A-Za-z0-9._-]", one)[0] for one in importlib.metadata.requires(backend) or ()}
    entries = {
        name: f"{name}=={version}" + (f" ; {marker}" if marker else "") for name, version, marker in ENTRY.findall(lock)
    }
    return {
        "constraint-dependencies": [entry for name, entry in entries.items() if name not in own],
        "build-constraint-dependencies": [entry for name, entry in entries.items() if name in required],
    }


def _with_list(text: str, key: str, entries: Iterable[str]) -> str:
    """Return the text of a pyproject.toml with these entries in the list `key`, in place of those that it has.

    `<key> = [` and `]` must be lines of their own.
    """
    lines = "".join(f'    "{entry}",\n' for entry in entries)
    return re.sub(LIST.format(key=key), lambda _: lines, text, flags=re.MULTILINE)


def main(root: Path = ROOT) -> None:
    path = root / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    lock = (root / "requirements.lock").read_text(encoding="utf-8")
    for key, entries in constraints(lock, tomllib.loads(text)).items():
        text = _with_list(text, key, entries)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
