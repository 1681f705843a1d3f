"""Wrong usage is answered in the words of the command that was typed, and says what is wrong with the value."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from infra.local.settings import load_bundled_broker
from infra.settings import SettingsError
from ops.cli import EXIT_UNREACHABLE, ending_well
from ops.orders import orders


def test_an_error_of_sqlite_is_no_finding_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """An exit code of 1 would tell scripts that something was found."""

    @ending_well
    def command() -> None:
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            database.execute("PRAGMA max_page_count = 1")
            database.execute("CREATE TABLE a (b)")

    with pytest.raises(SystemExit) as ended:
        command()

    assert ended.value.code == EXIT_UNREACHABLE
    assert re.search(r"database cannot be .* full\. Its disk is full: make room", capsys.readouterr().err)


def paths(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    """What is typed for each command, those within another one included."""
    for name, command in group.commands.items():
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from paths(command, *before, name)


@pytest.mark.parametrize("path", [(), *paths(orders)], ids=" ".join)
def test_each_command_explains_itself_without_a_broker(path: tuple[str, ...], tmp_path: Path) -> None:
    env = {"COLUMNS": "400", "NATS_URL": "nats://127.0.0.1:1", "DATA_DIR": str(tmp_path / "none")}

    done = CliRunner(env=env).invoke(orders, [*path, "--help"], prog_name="just")

    assert (done.exit_code, done.stderr, done.exception) == (0, "", None)
    assert f"Usage: {' '.join(('just', *path))} " in done.stdout
    command: click.Command = orders
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    for option in command.params:
        assert all(name in done.stdout for name in option.opts if name.startswith("--")), option.name
    assert not list(tmp_path.iterdir())


def refused(*arguments: str) -> str:
    """What a wrong usage prints, on one line."""
    done = CliRunner(env={"COLUMNS": "400"}).invoke(orders, arguments, prog_name="just")
    assert done.exit_code == 2
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.output).split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("place", "--user", "u1", "mug:99999999999999999999"), "the quantity of mug is too large"),
        (("place", "--user", "u1", "mug:two"), "'mug:two' is not PRODUCT:QUANTITY"),
        (("place", "--user", "u1", "mug", "--timeout", "soon"), "'soon' is not a number of seconds above 0"),
        (("ledger", "user", "u1", "--limit", "abc"), "'abc' is not a whole number"),
        (("ledger", "user", "u1", "--limit", "-1"), "-1 is too small: 0 is the least"),
        (("ledger", "user", "u1", "--limit", "9" * 5_000), "is too large: 9223372036854775807 is the most"),
        (("find", "--user", "u 1"), "1 to 64 letters, digits, `_` or `-`"),
        (("find", "--reason", "bad-luck"), "'bad-luck' is not one of 'product-out-of-stock', 'product-unknown'"),
        (("find", "--since", "yesterday"), "'yesterday' is not a time such as"),
        (("find", "--since", "-5m", "--until", "-6m"), "--since is after --until"),
        (("find", "--end", "confirmed", "--reason", "coupon-expired"), "does not go with --end confirmed"),
        (("find", "--end", "pending", "--by", "ended"), "--by ended finds none"),
        (("find", "--limit", "0"), "--limit 0 shows nothing without --count"),
        (("find", "--after", "0"), "0 is too small: 1 is the least"),
        (("audit", "--grace", "nan"), "'nan' is not a number of seconds from 0"),
        (("replay", "--to", "banana"), "Invalid value for --to: this is not a broker's address"),
    ],
)
def test_the_value_is_named_in_plain_words(arguments: tuple[str, ...], why: str) -> None:
    told = refused(*arguments)

    assert why in told
    assert f"Usage: just {arguments[0]}" in told
    assert f"Try 'just {arguments[0]} -h'" in told
    assert "NATS_URL" not in told
    assert "range" not in told
    assert "<=" not in told


@pytest.mark.parametrize("value", ["abc", "1.5", "99999", "0"])
def test_a_setting_is_refused_without_names_of_types(value: str) -> None:
    with pytest.raises(
        SettingsError, match=f"NATS_PORT='{value}' cannot be used: it has to be a whole number"
    ) as error:
        load_bundled_broker({"NATS_PORT": value})

    assert "Expected" not in str(error.value)
    assert "`" not in str(error.value)
