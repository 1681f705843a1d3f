"""Vulnerable packages, and those that nobody looked up, are findings; licences are those that may be."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from infra.local.ports import free_ports
from tests.supply_chain import made_of
from tests.supply_chain.made_of import (
    BLOCK,
    LOCK,
    PAGE,
    forbidden,
    licence_table,
    locked,
    product_packages,
    supply_chain,
)

VULNERABLE = {
    "id": "GHSA-x",
    "summary": "bad",
    "aliases": ["CVE-2026-1"],
    "modified": "2026-01-01T00:00:00Z",
    "published": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
    ],
}


class Advisories:
    """A service that answers as OSV's does; `vulnerable`: the packages that have a vulnerability."""

    def __init__(self) -> None:
        self.vulnerable: set[str] = set()
        self.asked: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = asked["package"]["name"]
                service.asked.append(f"{name}=={asked['version']}")
                body = json.dumps({"vulns": [VULNERABLE]} if name in service.vulnerable else {}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/query"


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    made = Advisories()
    thread = Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def small_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of three packages, one of them for another platform."""
    path = tmp_path / "requirements.lock"
    path.write_text(
        "attrs==26.1.0 \\\n    --hash=sha256:00\njinja2==3.1.6 \\\n    --hash=sha256:00\n"
        "colorama==0.4.6 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
    )
    monkeypatch.setattr(made_of, "LOCK", path)
    return path


def ran(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(supply_chain, arguments)
    return done.exit_code, done.stdout, done.stderr


def test_every_package_is_looked_up_those_for_other_platforms_too(advisories: Advisories, small_lock: Path) -> None:
    code, said, _ = ran("audit-deps", "--osv-url", advisories.url)

    assert (code, said) == (0, "3 packages: none has a known vulnerability\n")
    assert sorted(advisories.asked) == ["attrs==26.1.0", "colorama==0.4.6", "jinja2==3.1.6"]


def test_a_vulnerable_package_is_named_with_the_version_that_is_not(advisories: Advisories, small_lock: Path) -> None:
    advisories.vulnerable = {"jinja2"}

    code, said, _ = ran("audit-deps", "--osv-url", advisories.url)

    assert code == 1
    assert re.fullmatch(r"jinja2 3\.1\.6: (GHSA-x|CVE-2026-1)[^;]*; mended in 99\.1\n", said)


def test_a_package_that_was_not_looked_up_is_a_finding(
    advisories: Advisories, small_lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_of._run

    def skips(program: str, *arguments: str, **more: Any) -> Any:
        done = run(program, *arguments, **more)
        told = json.loads(done.stdout)
        told["dependencies"][0] = {"name": told["dependencies"][0]["name"], "skip_reason": "not found"}
        done.stdout = json.dumps(told)
        return done

    monkeypatch.setattr(made_of, "_run", skips)

    code, said, _ = ran("audit-deps", "--osv-url", advisories.url)

    assert code == 1
    assert re.fullmatch(r"\w+ [\d.]+: was not looked up\n", said)


def test_without_the_service_nothing_is_known_and_that_is_said(small_lock: Path) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/v1/query"

    code, said, why = ran("audit-deps", "--osv-url", url)

    assert (code, said) == (3, "")
    assert f"{url} cannot be asked, so nothing is known" in why


def test_the_lock_has_all_that_is_looked_up() -> None:
    packages = locked(LOCK.read_text())

    assert len(packages) > 150
    assert {name for name, _ in packages} >= product_packages()


def test_the_bill_of_materials_has_the_products_packages_and_is_the_same_again(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    for path in (one, other):
        assert ran("sbom", str(path))[0] == 0

    told = json.loads(one.read_bytes())
    assert one.read_bytes() == other.read_bytes()
    assert {component["name"].lower() for component in told["components"]} == product_packages()
    assert all(component["externalReferences"] for component in told["components"])
    assert ran("sbom", str(tmp_path / "none" / "x.json"))[0] == 2


# Licences -------------------------------------------------------------------------------------------------------------


def test_the_page_lists_the_licence_of_every_package() -> None:
    found = BLOCK.search(PAGE.read_text())

    assert found is not None
    listed, here = (set(text.splitlines()) for text in (found[0], licence_table()))
    assert here <= listed, "just licences"


def test_every_licence_may_be() -> None:
    for line in licence_table().splitlines()[2:]:
        _, name, licence, _ = (cell.strip() for cell in line.split("|"))
        assert forbidden(licence) == [], f"{name} is under {licence}: may it be a part of the product?"


@pytest.mark.parametrize(
    ("licence", "wrong"),
    [
        ("MIT", []),
        ("Apache-2.0 OR BSD-3-Clause", []),
        ("(MIT AND Zlib) OR ISC", []),
        ("GPL-3.0-only", ["GPL-3.0-only"]),
        ("MIT AND AGPL-3.0-only", ["AGPL-3.0-only"]),
        ("not told", ["not told"]),
    ],
)
def test_another_licence_is_seen(licence: str, wrong: list[str]) -> None:
    assert forbidden(licence) == wrong
