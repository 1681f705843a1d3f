"""`orders what-if --history FILE`, as it is run and as it is wrongly run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ops.orders import orders
from tests.what_if.recorded import FILE

LAST_LINE = re.compile(
    r"(?P<differences>[\d,]+) differences in (?P<decisions>[\d,]+) decisions: "
    r"(?:\w+_svc [\d,]+ in [\d,]+(?:, |; )){4}[\d,]+ facts given, [\d,]+ asked again"
)


@pytest.fixture
def altered(tmp_path: Path) -> Path:
    """The recorded history, but the first discount of 300 won is 299."""
    file = tmp_path / "altered.jsonl"
    file.write_bytes(FILE.read_bytes().replace(b'"discount":300}}', b'"discount":299}}', 1))
    return file


def run(*arguments: str, given: bytes | None = None, **env: str) -> Result:
    return CliRunner().invoke(orders, ["what-if", *arguments], input=given, env=env)


def test_the_recorded_history() -> None:
    done = run("--history", str(FILE))

    assert (done.exit_code, done.stderr) == (0, "")
    found = LAST_LINE.fullmatch(done.stdout.strip())
    assert found
    assert found["differences"] == "0"


def test_from_standard_input_for_machines() -> None:
    done = run("--history", "-", "--json", given=FILE.read_bytes())

    told: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (told["differences"], told["shown"], told["open"], told["unjudged"]) == (0, [], 0, 0)
    assert told["decisions"] == sum(tally["decisions"] for tally in told["services"].values()) > 250


def test_what_differs_is_listed(altered: Path) -> None:
    done = run("--history", str(altered))

    assert (done.exit_code, done.stderr) == (1, "")
    where = r"^coupon_svc, position \d+, coupon-\w+@\d+ because of point\.used \(account-\w+@\d+\)$"
    assert re.search(where, done.stdout, re.MULTILINE)
    assert "  recorded  coupon.used\n  now       coupon.used\n" in done.stdout
    assert "coupon.used discount: 299 → 300\n" in done.stdout
    assert re.search(r"order\.confirmed amount_due: \d+ → \d+\n", done.stdout)
    found = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert found
    assert found["differences"] == "2"


def test_as_many_are_listed_as_are_wanted_and_all_are_counted(altered: Path) -> None:
    done = run("--history", str(altered), "--limit", "1", "--json")
    told = json.loads(done.stdout)

    assert done.exit_code == 1
    assert (told["differences"], len(told["shown"])) == (2, 1)
    assert "… and 1 more: --limit\n" in run("--history", str(altered), "--limit", "1").stdout
    (shown,) = told["shown"]
    assert shown["fields"][0].keys() == {"fact", "field", "recorded", "now"}


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(FILE.read_bytes().replace(b'"sequence"', b'"number"', 1))
    done = run("--history", str(file))

    assert done.exit_code == 2
    assert "line 1: Object missing required field `sequence`" in " ".join(done.stderr.replace("│", " ").split())


def test_foreign_messages_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "foreign.jsonl"
    line = FILE.read_bytes().splitlines()[0].replace(b"Fact-Version", b"Version")
    file.write_bytes(FILE.read_bytes() + line + b"\n")
    done = run("--history", str(file))

    assert done.exit_code == 0
    assert "1 foreign messages are passed over" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--history", "no-such-file"], ["--history", "."], ["--limit", "-1"], ["order"], ["--history"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_no_store_there(tmp_path: Path) -> None:
    done = run(DATA_DIR=str(tmp_path))

    assert done.exit_code == 3
    assert "Has it run with this DATA_DIR?" in done.stderr
