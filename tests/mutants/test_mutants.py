"""The recipe, on a package of its own: what its tests do not see survives, and nothing is tried twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

PACKAGE: Final = {
    "ware/__init__.py": "",
    "ware/price.py": "def price(pieces: int) -> int:\n    return pieces * 3\n",
    "ware/parcel.py": "def is_free(total: int) -> bool:\n    return total > 100\n",
    "tests/test_price.py": "from ware.price import price\n\ndef test_price() -> None:\n    assert price(2) == 6\n",
    "tests/test_parcel.py": (
        "from ware.parcel import is_free\n\ndef test_free() -> None:\n    assert is_free(200) and not is_free(1)\n"
    ),
    "tests/test_else.py": "def test_else() -> None:\n    pass\n",
}

RUN: Final = """
import sys
from pathlib import Path

from tests.mutants import session
from tests.mutants.groups import Group
from tests.mutants.recipe import Recipe

session.START_S = 1.0
group = Group("wares", ("tests/**",), ("ware/*.py",))
sys.exit(0 if Recipe(Path(sys.argv[1]), Path(sys.argv[2]), typed=False).run(group, 1) else 1)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    for name, text in PACKAGE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def run(package: Path) -> tuple[int, str]:
    """The exit code of the recipe, and its last lines: the figures, and what survived."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, package, package.parent / "kept"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=package.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.returncode, done.stdout[done.stdout.rindex("wares: ") :]


def results(package: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (package.parent / "kept" / "results.jsonl").read_text().splitlines()]


def test_a_package_with_a_test_that_sees_little(package: Path) -> None:
    code, told = run(package)

    by_name = {result["name"]: result for result in results(package)}
    assert by_name["price: pieces * 3 → pieces / 3"]["state"] == "killed"
    assert by_name["price: pieces * 3 → pieces / 3"]["by"] == "tests/test_price.py::test_price"
    assert by_name["price: 3 → 4"]["state"] == "killed"
    assert by_name["is_free: > 100 → >= 100"]["state"] == "survived"
    assert by_name["is_free: 100 → 101"]["state"] == "survived"
    assert len(by_name) == 4
    assert code == 1
    assert "found 2 of 4: 50.0%" in told
    assert told.count("survived") == 2
    assert {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")} == PACKAGE

    run(package)
    assert len(results(package)) == 4, "what is known is not tried again"

    (package / "tests/test_else.py").write_text("def test_else() -> None:\n    assert True\n")
    run(package)
    assert len(results(package)) == 4, "this test executes none of them"

    sharper = PACKAGE["tests/test_parcel.py"].replace(
        "is_free(200) and not is_free(1)", "is_free(101) and not is_free(100)"
    )
    (package / "tests/test_parcel.py").write_text(sharper)
    code, told = run(package)
    again = results(package)[4:]
    assert {result["path"]: result["state"] for result in again} == {"ware/parcel.py": "killed"}
    assert len(again) == 2, "only the mutants of the changed tests are tried again"
    assert code == 0
    assert "found 4 of 4: 100.0%" in told

    (package / "ware/price.py").write_text(PACKAGE["ware/price.py"].replace("3", "5"))
    assert run(package)[0] == 1
    assert {result["path"] for result in results(package)[6:]} == {"ware/price.py"}, "only those of the changed module"


def test_a_mutant_that_never_ends_is_found(package: Path) -> None:
    """It is killed after a time that follows from how long the test takes without it."""
    (package / "ware/price.py").unlink()
    (package / "tests/test_price.py").unlink()
    (package / "ware/parcel.py").write_text(
        "def count(total: int) -> int:\n    while total > 0:\n        total -= 1\n    return total\n"
    )
    (package / "tests/test_parcel.py").write_text(
        "from ware.parcel import count\n\ndef test_count() -> None:\n    assert count(3) == 0\n"
    )

    run(package)

    states = {result["name"]: result["state"] for result in results(package)}
    assert states["count: total -= 1 → total += 1"] == "too slow"
