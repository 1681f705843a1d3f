"""What a release consists of: a version with its section in the changelog, a licence, types for those who use them."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sections() -> list[str]:
    return re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_version_has_a_section_with_its_date() -> None:
    version = PROJECT["project"]["version"]

    assert re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert sections()[:2] == ["Unreleased", version]


def test_the_licence_is_named_and_there() -> None:
    assert PROJECT["project"]["license"] == "MIT"
    assert [(ROOT / file).read_text()[:11] for file in PROJECT["project"]["license-files"]] == ["MIT License"]


def test_the_contracts_are_typed() -> None:
    assert (ROOT / "contracts" / "py.typed").exists()
    assert "/contracts" in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]


def test_services_are_measured_and_checked_all() -> None:
    assert PROJECT["tool"]["coverage"]["run"]["source"] == ["."]
    assert not [path for path in PROJECT["tool"]["coverage"]["run"]["omit"] if "svc" in path]
    assert "*_svc/**/*.py" in PROJECT["tool"]["mypy"]["files"]
