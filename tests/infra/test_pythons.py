"""CI tests every Python of the machine: .ci/pythons.py finds them, and .ci/run installs those that are missing."""

import re
import runpy
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FIND: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "pythons.py"))


def interpreter(path: Path, version: str, name: str = "CPython") -> Path:
    """A program that says that it is this Python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {name} {version.replace('.', ' ')}\n")
    path.chmod(0o755)
    return path


def test_those_on_the_path_of_pyenv_and_of_uv_are_found_each_once(tmp_path: Path) -> None:
    usual = interpreter(tmp_path / "bin" / "python3", "3.11.2")
    pyenvs = interpreter(tmp_path / ".pyenv" / "versions" / "3.13.0" / "bin" / "python3", "3.13.0")
    interpreter(tmp_path / ".pyenv" / "versions" / "3.11.2" / "bin" / "python3", "3.11.2")
    uvs = interpreter(
        tmp_path / ".local" / "share" / "uv" / "python" / "cpython-3.14.1" / "bin" / "python3.14", "3.14.1"
    )
    for name, version, maker in (("python3.9", "3.9.18", "CPython"), ("python3.12", "3.12.1", "PyPy")):
        interpreter(tmp_path / "bin" / name, version, maker)
    (tmp_path / "bin" / "python3.15").write_text("not a program")
    interpreter(tmp_path / "bin" / "python3.13", "").write_text("#!/bin/sh\nexit 127\n")  # as pyenv's shims may

    found = FIND["pythons"]({"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")})

    assert list(found.items()) == [((3, 11, 2), usual), ((3, 13, 0), pyenvs), ((3, 14, 1), uvs)]


def test_this_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sys.version_info[:3] in FIND["pythons"]({"PATH": str(Path(sys.executable).parent)})


def test_the_lowest_is_the_one_that_the_package_requires() -> None:
    assert PROJECT["project"]["requires-python"] == f">={'.'.join(map(str, FIND['LOWEST']))}"


def test_ci_tries_every_minor_version_that_the_package_names() -> None:
    named = {
        classifier.rpartition(" ")[2]
        for classifier in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", classifier)
    }
    (tried,) = re.findall(r"^for minor in (.*); do$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)

    assert named - {".".join(map(str, FIND["LOWEST"]))} <= set(tried.split())
