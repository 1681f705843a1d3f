"""No argument makes a command end with a traceback, or in another way than documented: every parameter, every value."""

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import rich_click as click
from click.testing import CliRunner

from infra.local.ports import free_ports
from ops.demo import command as demo
from ops.orders import orders
from tests.e2e.processes import run
from tests.shop import Shop, open_shop

DOCUMENTED = {0, 1, 2, 3}
NUMBERS = [
    *("0", "-1", "1", "007", "+5", "1.5", "1e400", "-1e-400", "nan", "inf", "-inf", "1_000", "٣", "0x10", "true"),
    *("9" * 16, str(1 << 63), str((1 << 63) - 1), "9" * 30, "9" * 5_000),
]
TIMES = [
    *("-5m", "-999999999d", "15:32", "25:00", "2026-02-30", "2026-01-31", "yesterday", "2026-01-31T09:00:00+23:59"),
    *("0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999999Z"),
]
TEXTS = [  # a program's arguments cannot have a null byte, nor surrogates but those that stand for bytes
    *(
        "",
        " ",
        "-",
        "--",
        "---",
        "-x",
        "=",
        "x",
        "주문",
        "x" * 65,
        "x" * 100_000,
        "a b",
        "a\nb",
        "[/b]",
        "%s{0}",
    ),
    *(
        "\x1b[2J",
        "\x9b31m",
        "\u202e",
        "\udcff\udcfe",
        "..",
        "/",
        "\\",
        "*",
        ">",
        "point.>",
        "a..b",
        "$JS.API.>",
    ),
    *("order", "user", "point", "popular", "orders", "EVENTS", "DEAD", "status", "reconcile", "all", "original"),
    *("mug:1", "mug:0", "mug:-1", "mug:999999999", "mug:9999999999", ":", "::1", "mug:1:1"),
    *("nats://127.0.0.1:1", "nats://u:secret@[::1", "tls://127.0.0.1:1", "http://127.0.0.1", "nats://127.0.0.1:99999"),
]
FILES = {
    "text": b"no line of any command\n",
    "bytes": bytes(range(256)),
    "empty": b"",
    "deep": b"[" * 100_000,
    "number": b'{"sequence":%b}' % (b"9" * 6_000),
    "line": b'{"sequence":-1,"subject":"\\u001b","headers":{"\\n":"\\u0000"},"stored":"9999-99-99","body":"\xff"}\n',
    "list": b"[]",
}
"""Name → content of a file that is none of ours."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A running shop that has an order; the commands may do to it what they like."""
    async with open_shop(tmp_path_factory.mktemp("shop")) as opened:
        await opened.register("mug")
        assert (await opened.place([("mug", 1)])).status_code == 200
        await opened.until_quiet()
        yield opened


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Paths of every kind of thing that is no good file and no good folder."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    made = [*FILES, "folder", "loop", "missing", "missing/missing", "text/below", f"{'x' * 300}", "\udcff/x"]
    return [*(str(tmp_path / name) for name in made), "/dev/null", "/dev/full", "/proc/self/mem", "/proc/1/mem"]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands that have no commands below them."""
    if isinstance(command, click.RichGroup):
        for name, below in command.commands.items():
            yield from leaves(below, (*path, name))
    else:
        yield path, command


COMMANDS = dict(leaves(orders))
GOOD = {
    "order_id": "none",
    "kind": "order",
    "key": "mug",
    "thing": "product",
    "sequence": "1",
    "sequences": "1",
    "name": "point",
    "folder": "/dev/null",
    "lines": "mug:1",
    "action": "status",
}
"""Parameter → a value that is fine, while another parameter has one that may not be."""


def tried(path: tuple[str, ...], values: Sequence[str]) -> Iterator[list[str]]:
    """Every parameter of the command with each of the values, each flag with and without a value, and too much."""
    parameters = COMMANDS[path].params
    arguments = [one for one in parameters if isinstance(one, click.Argument)]
    options = [one for one in parameters if isinstance(one, click.Option)]
    good = [GOOD[str(one.name)] for one in arguments if one.nargs != -1 or one.required]
    needed = {str(one.name): (one.opts[0], "u1") for one in options if one.required}
    before = [part for pair in needed.values() for part in pair]
    for number in range(len(arguments)):
        for value in values:
            given = [*good[:number], value, *good[number + 1 :]]
            yield [*path, *before, *given]
            yield [*path, *before, "--", *given]
    for option in options:
        others = [part for name, pair in needed.items() if name != option.name for part in pair]
        if option.is_flag:
            yield [*path, *before, option.opts[0], *good]
            yield [*path, *before, f"{option.opts[0]}=x", *good]
        for value in values if not option.is_flag else ():
            yield [*path, *others, option.opts[0], value, *good]
    yield [*path, *before, *good, "too", "much"]


def is_endless(given: list[str]) -> bool:
    """Whether this does its work until Ctrl-C, or writes into this checkout."""
    until_stopped = given[:1] == ["export"] and not {"status", "reconcile"} & set(given)
    return until_stopped or bool({"--write", "--follow", "--speed", "--watch"} & set(given))


def what_is_wrong(given: list[str], command: Any = orders) -> str:
    done = CliRunner().invoke(command, given)
    said = done.stdout + done.stderr
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"raises {done.exception!r}"
    if done.exit_code not in DOCUMENTED:
        return f"ends with {done.exit_code}"
    if done.exit_code in (2, 3) and not done.stderr.strip():
        return "does not say what is wrong"
    if not all(one.isprintable() or one == "\n" for one in said):
        return f"lets a terminal obey {said!a}"
    return "shows a password" if "--to" in given and "secret" in said else ""


AT_WORK = [
    *("0", "1", "inf", "1e-3", str((1 << 63) - 1), str(1 << 63), "0001-01-01", "9999-12-31T23:59:59.999999Z", "-5m"),
    *("order", "mug", "popular", "point.>", "\udcff", "/dev/null", "all"),
]
"""Values that reach the broker, the stores or the services: not all, because each is real work."""


def check(path: tuple[str, ...], values: Sequence[str]) -> None:
    given = [one for one in tried(path, values) if not is_endless(one)]
    assert given
    wrong = {" ".join(one)[:200]: why for one in given if (why := what_is_wrong(one))}
    assert not wrong, "\n".join(f"{one!a}: {why}"[:600] for one, why in wrong.items())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_value_makes_a_traceback_where_nothing_is(
    path: tuple[str, ...], paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = free_ports(5)
    for name, port in zip(("NATS", "ORDER", "PRODUCT", "POINT", "COUPON"), nobody, strict=True):
        monkeypatch.setenv(f"{name}_PORT", str(port))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    check(path, [*NUMBERS, *TIMES, *TEXTS, *paths])


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_none_makes_one_on_a_running_system(
    path: tuple[str, ...], shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in shop.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    check(path, AT_WORK)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("ops.demo", ["--\x1b[2J"]),
        ("ops.demo", ["\udcff"]),
        ("infra.local.up", ["\x1b[2J\udcff"]),
        ("infra.local.up", ["--parent", "x"]),
        ("infra.local.up", ["--parent"]),
        ("infra.local.up", ["--parent", "9" * 5_000]),
        ("infra.local.nats", ["\x1b[2J\udcff"]),
        ("infra.start", ["--service", "\x1b[2J\udcff"]),
        ("infra.start", ["--service", "x.y"]),
        ("infra.start", ["--service", "order", "\x1b[2J"]),
    ],
)
async def test_other_programs_refuse_what_they_do_not_know(module: str, arguments: list[str]) -> None:
    done = await run(module, *arguments, env={**os.environ})

    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert all(one.isprintable() or one == "\n" for one in done.stdout + done.stderr)


def test_the_demo_takes_no_other_argument() -> None:
    wrong = {one: why for one in TEXTS if one not in ("--", "") and (why := what_is_wrong([one], demo.command))}
    assert not wrong
