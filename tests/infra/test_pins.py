"""What is installed is what was tried: pyproject pins versions, requirements.lock pins their files by hash."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ops import pins

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,-]+\])?==([^\s;]+)")
PRODUCT = [ROOT / folder for folder in ("contracts", "infra", "ops")]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def wanted() -> list[str]:
    """Every requirement of pyproject: the product's, its extras', those of its tools, and what it is built with."""
    found = project()
    lists = [*found["project"]["optional-dependencies"].values(), *found["dependency-groups"].values()]
    more = [requirement for one in lists for requirement in one]
    return sorted({*found["project"]["dependencies"], *more, *found["build-system"]["requires"]})


def normal(name: str) -> str:
    """As package indexes compare names (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lock() -> list[str]:
    """The lock's entries: requirement, hashes and comments, each joined to one line."""
    text = (ROOT / "requirements.lock").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return re.sub(r"\s*\\\s+", " ", "\n".join(lines)).splitlines()


def locked() -> dict[str, str]:
    matches = [PIN.match(entry) for entry in lock()]
    return {normal(match[1]): match[2] for match in matches if match}


@pytest.mark.parametrize("requirement", wanted())
def test_a_requirement_names_one_version_and_the_lock_the_same(requirement: str) -> None:
    match = PIN.fullmatch(requirement)

    assert match is not None, f"{requirement} is not pinned with =="
    assert locked().get(normal(match[1])) == match[2]


def test_every_entry_of_the_lock_is_one_version_with_its_hashes() -> None:
    entries = lock()

    assert entries
    assert [entry for entry in entries if not PIN.match(entry) or not HASH.search(entry)] == []


def test_the_lock_names_no_package_twice() -> None:
    names = [normal(entry.partition("==")[0]) for entry in lock()]

    assert len(names) == len(set(names))


def test_the_lock_names_no_index_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()

    assert re.findall(r"https?://\S+|file:\S+|--(?:extra-)?index-url.*|--find-links.*|\s@\s\S+", text) == []


def test_users_get_the_versions_of_the_lock() -> None:
    """uv reads no requirements.lock for `uv run`, but [tool.uv] of pyproject.toml."""
    uv = project()["tool"]["uv"]
    chosen = {requirement.partition("==")[0] for requirement in [*wanted(), *uv["constraint-dependencies"]]}

    assert sorted(map(normal, chosen)) == sorted(locked())
    for key in ("constraint-dependencies", "build-constraint-dependencies"):
        versions = {normal(match[1]): match[2] for match in map(PIN.match, uv[key]) if match}
        assert len(versions) == len(uv[key]) > 0
        assert versions.items() <= locked().items(), "write them again: just lock"


def test_the_lists_are_what_just_lock_writes(tmp_path: Path) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "requirements.lock").write_text((ROOT / "requirements.lock").read_text())
    stale = re.sub(r'    "(h11|pluggy)==.*\n', "", text)
    assert stale != text
    (tmp_path / "pyproject.toml").write_text(stale)

    pins.main(tmp_path)

    assert (tmp_path / "pyproject.toml").read_text() == text


def test_the_first_command_installs_neither_tools_nor_extras() -> None:
    found = project()

    assert found["tool"]["uv"]["default-groups"] == []
    extras = found["project"]["optional-dependencies"]
    assert {"pyarrow", "opentelemetry-sdk"} <= {one.partition("==")[0] for extra in extras.values() for one in extra}
    assert {one for extra in extras.values() for one in extra} <= set(found["dependency-groups"]["dev"])


def test_the_product_imports_only_what_it_requires() -> None:
    """Tests run with all groups, so a requirement that is missing from the product's own would not be seen."""
    extras = project()["project"]["optional-dependencies"].values()
    requirements = [*project()["project"]["dependencies"], *(one for extra in extras for one in extra)]
    required = {normal(match[1]) for match in map(PIN.match, requirements) if match}
    distributions = importlib.metadata.packages_distributions()
    own = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in [*PRODUCT, *ROOT.glob("*_svc")]
        for path in folder.rglob("*.py")
        for name in imported(path)
        if name not in sys.stdlib_module_names
        and name not in own
        and not required & {normal(one) for one in distributions.get(name, ())}
    }

    assert found == set()


def imported(path: Path) -> set[str]:
    """The top-level names that a module imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names
