"""What the product is made of besides its own code: `just audit-deps`, `just sbom`, `just licences`.

All three begin with requirements.lock. A product's package is one that pyproject.toml requires, or an extra of it, or
what such a package requires in turn.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import rich_click as click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.local.services import ROOT
from infra.printable import printable
from ops.cli import ending_well
from ops.errors import Found, Unreachable, Unusable
from ops.output import print_out
from ops.pins import ENTRY

LOCK: Final = ROOT / "requirements.lock"
OSV_URL: Final = "https://api.osv.dev/v1/query"
SHOWN: Final = 300  # characters of another program's last words
PAGE: Final = ROOT / "docs" / "licences.md"
BLOCK: Final = re.compile(r"(?<=<!-- licences:begin -->\n).*?(?=<!-- licences:end -->)", re.DOTALL)

ALLOWED: Final = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0"),
        *("Unlicense", "Python-2.0", "CC0-1.0", "Zlib"),
    }
)
"""Licences, by their SPDX names, under which a package may be a part of the product."""

NAMES: Final[Mapping[str, str]] = {
    "MIT License": "MIT",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "BSD": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
}
"""SPDX names of what packages say in other words."""


READ: Final[Mapping[str, str]] = {"rich-click": "MIT", "rust-just": "CC0-1.0"}
"""Licences of packages whose metadata tell none: as their licence files, or those of their sources, say."""


class LockedPackage(NamedTuple):
    """A package of the lock, and its version; for whatever platform it is."""

    name: str
    version: str


def locked(lock: str) -> list[LockedPackage]:
    """Return all packages of the lock's text, each once."""
    return list(dict.fromkeys(LockedPackage(name, version) for name, version, _ in ENTRY.findall(lock)))


def product_packages() -> set[str]:
    """Return the canonical names of the product's packages that are installed here, its extras' included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    left_out = {
        canonicalize_name(one.name)
        for one in map(Requirement, project["tool"]["uv"]["override-dependencies"])
        if one.marker is not None and not one.marker.evaluate()
    }
    found: set[str] = set()
    waiting = [*map(Requirement, (*project["project"]["dependencies"], *(one for extra in extras for one in extra)))]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not needed or name in found or name in left_out:
            continue
        try:
            required = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += map(Requirement, required)
    return found


def licence_of(name: str) -> str:
    """Return the licence of an installed package, by its SPDX expression if there is one, else in its own words."""
    told: Any = importlib.metadata.metadata(name)
    if name in READ:
        return READ[name]
    if expression := told.get("License-Expression"):
        return str(expression)
    classified = [
        one.rpartition(" :: ")[2] for one in told.get_all("Classifier") or () if one.startswith("License :: OSI")
    ]
    text = (told.get("License") or "").strip()
    named = classified or ([text] if text and "\n" not in text else [])
    return " AND ".join(sorted({NAMES.get(one, one) for one in named})) or "not told"


def forbidden(licence: str) -> list[str]:
    """Return the parts of this expression that are not in ALLOWED; empty if all are."""
    return [part for part in re.split(r"\s+(?:AND|OR|WITH)\s+|[()]", licence) if part.strip() and part not in ALLOWED]


def licence_table() -> str:
    """Return the table of docs/licences.md for the packages that are installed here."""
    rows = [f"| {name} | {licence_of(name)} |" for name in sorted(product_packages())]
    return "\n".join(["| package | licence |", "| --- | --- |", *rows]) + "\n"


@click.group()
def supply_chain() -> None:
    """Say what the product is made of besides its own code."""


def _run(program: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment. Raises Unusable if it is not installed."""
    path = Path(sys.executable).with_name(program)
    try:
        return subprocess.run([path, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, **more)
    except FileNotFoundError as error:
        raise Unusable(f"{program} is not installed: `uv sync --inexact --group supply-chain` installs it") from error


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return printable(lines[-1][:SHOWN]) if lines else "it says nothing"


@supply_chain.command("audit-deps")
@click.option(
    "--osv-url", default=OSV_URL, show_default=True, metavar="URL", help="Where vulnerabilities are looked up."
)
@ending_well
def audit_dependencies(osv_url: str) -> None:
    """Look every package of requirements.lock up among known vulnerabilities, those for other platforms, too.

    \b
    Exit code: 0 none has one; 1 one has, or was not looked up; 3 the vulnerabilities cannot be asked for
    """
    packages = locked(LOCK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text("".join(f"{name}=={version}\n" for name, version in packages))
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "-s", "osv", "--osv-url", osv_url]
        done = _run("pip-audit", "-r", str(path), "-f", "json", "--cache-dir", folder, *options)
    try:
        told = json.loads(done.stdout)["dependencies"]
    except (ValueError, LookupError, TypeError) as error:
        raise Unreachable(
            f"{osv_url} cannot be asked, so nothing is known: {_last_line(done.stderr)}; is the network there?"
        ) from error
    findings = list(_findings(packages, told))
    for finding in findings:
        print_out(finding)
    if findings:
        raise Found("")
    print_out(f"{len(packages)} packages: none has a known vulnerability")


def _findings(packages: Iterable[LockedPackage], told: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each vulnerability, and for each package that was not looked up."""
    looked_up = set()
    for one in told:
        if "vulns" in one:
            looked_up.add((canonicalize_name(str(one["name"])), str(one["version"])))
        for found in one.get("vulns", ()):
            mended = ", ".join(found.get("fix_versions") or ()) or "no version"
            names = " ".join([str(found["id"]), *map(str, found.get("aliases") or ())])
            yield printable(f"{one['name']} {one['version']}: {names}; mended in {mended}")
    for name, version in packages:
        if (canonicalize_name(name), version) not in looked_up:
            yield f"{name} {version}: was not looked up"


@supply_chain.command("sbom")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@ending_well
def bill_of_materials(file: Path) -> None:
    """Write the product's bill of materials (CycloneDX, JSON) to FILE: its packages here, with their hashes.

    The same lock gives the same file.
    """
    names = product_packages()
    lines = LOCK.read_text(encoding="utf-8").splitlines(keepends=True)
    kept: list[str] = []
    keep = False
    for line in lines:
        if line[:1].isalnum():
            keep = canonicalize_name(line.partition("==")[0]) in names
        if keep and not line.lstrip().startswith("#"):
            kept.append(line)
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--validate", "--of", "JSON"]
    done = _run("cyclonedx-py", "requirements", "-", *options, "-o", str(file.absolute()), input="".join(kept))
    if done.returncode != 0:
        raise Unusable(f"{file} was not written: {_last_line(done.stderr)}")
    print_out(f"{len(names)} packages are in {file}")


@supply_chain.command("licences")
@ending_well
def write_licences() -> None:
    """Write the table of docs/licences.md again, from what is installed here."""
    PAGE.write_text(BLOCK.sub(lambda _: licence_table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    supply_chain(prog_name="just")
