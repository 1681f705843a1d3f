"""What is installed is what was tried: pyproject pins versions, requirements.lock pins their files by hash."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,-]+\])?==([^\s;]+)")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def wanted() -> list[str]:
    """Every requirement of pyproject: the product's, those of its tools, and what it is built with."""
    found = project()
    groups = [requirement for group in found.get("dependency-groups", {}).values() for requirement in group]
    return sorted({*found["project"]["dependencies"], *groups, *found["build-system"]["requires"]})


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
