"""Print the released CPythons 3.11 or newer of this machine, version and path, the lowest version first.

They are looked for on PATH, below pyenv's folder, and where uv keeps those that it has installed. Of each minor version
the lowest is printed. Needs no package, and runs on any Python 3.
"""

import os
import subprocess
import sys
from pathlib import Path

LOWEST = (3, 11)
WHICH = (
    "import platform, sys, sysconfig; "
    "usual = sys.version_info[3] == 'final' and not sysconfig.get_config_var('Py_GIL_DISABLED'); "
    "print(platform.python_implementation() if usual else '', *sys.version_info[:3])"
)


def candidates(environ):
    """Return the files that may be interpreters, first those on PATH."""
    home = Path(environ.get("HOME", "/"))
    folders = [Path(folder) for folder in environ.get("PATH", "").split(os.pathsep) if folder]
    folders += sorted(Path(environ.get("PYENV_ROOT", home / ".pyenv")).glob("versions/*/bin"))
    data = Path(environ.get("XDG_DATA_HOME", home / ".local" / "share"))
    folders += sorted(Path(environ.get("UV_PYTHON_INSTALL_DIR", data / "uv" / "python")).glob("*/bin"))
    return [file for folder in folders for file in [folder / "python3", *sorted(folder.glob("python3.[0-9]*"))]]


def version(file):
    """Return the version of an interpreter; None: it does not run, or is no released CPython with the usual GIL."""
    if file.name.endswith("-config") or not os.access(file, os.X_OK):
        return None
    try:
        asked = subprocess.run([file, "-I", "-c", WHICH], capture_output=True, text=True, timeout=30, check=False)
        name, *numbers = asked.stdout.split()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, numbers)) if name == "CPython" else None


def pythons(environ):
    """Return version → path of the interpreters that are LOWEST or newer."""
    found = {}
    for file in candidates(environ):
        number = version(file)
        if number is not None and number >= LOWEST:
            found.setdefault(number, file)
    lowest = {}
    for number in sorted(found):
        lowest.setdefault(number[:2], number)
    return {number: found[number] for number in lowest.values()}


if __name__ == "__main__":
    for number, file in pythons(os.environ).items():
        sys.stdout.write(f"{'.'.join(map(str, number))} {file}\n")
