"""What others wrote never reaches a terminal as it is: one module prints, and it escapes; nothing prints beside it."""

import ast
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.table import Table

from infra.consuming.dead_letter import DeadLetter
from infra.consuming.redrive_notes import RedriveNote
from infra.core.messages import StreamPosition
from ops import at, ledger, place, trace
from ops.client import ServiceAnswer
from ops.dlq import dead_letters
from ops.output import cell, escaped_json, print_json, print_out, print_traceback
from ops.what_if import command as what_if
from ops.what_if.difference import Changed, Difference
from tests.ops.asking import orders
from tests.saga.test_dead_letters import say, until_parked
from tests.shop import Shop, open_shop

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 2, tzinfo=UTC)

HOSTILE = st.lists(
    st.sampled_from([*"ab[]/=\\é주", *"\x1b\x9b\x85\r\n\x00\u202e\u2028\u200b\U000e0041", "\x1b[2J", "\x1b]0;x\x07"])
    | st.sampled_from(["[/b]", "[red]x[/red]", "[link=http://x]y[/link]", ":smile:", "\x1b[31m"]),
    min_size=1,
    max_size=12,
).map("".join)

slow = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


# No other way ---------------------------------------------------------------------------------------------------------

PRINTERS = {
    "ops/output.py": "the module",
    "ops/demo/command.py": "prints facts and answers of the system that it has just made itself",
    "ops/demo/crash.py": "prints facts and answers of the system that it has just made itself",
    "ops/demo/orders.py": "prints facts and answers of the system that it has just made itself",
    "ops/demo/output.py": "prints facts and answers of the system that it has just made itself",
    "ops/pictures.py": "draws a file; prints nothing",
    "infra/process/service.py": "one line through `printable`, before there is a log",
    "infra/process/keeper.py": "one line through `printable`, before there is a log",
    "infra/process/logging.py": "gives standard error to the log's handler, whose lines are cleaned",
    "infra/local/up.py": "one line through `printable`; the others go through LabelledOutput",
    "infra/local/nats.py": "one line through `printable`",
    "infra/local/roll.py": "lines through `printable`",
    "infra/local/labelled_output.py": "escapes each line",
    "contracts/asyncapi.py": "prints the document that it makes of the code",
}
"""Modules that may touch standard output or standard error, and why they do no harm."""

NAMES = {"print", "Console", "Progress"}
ATTRIBUTES = {
    "echo",
    "secho",
    "echo_via_pager",
    "from_markup",
    "from_ansi",
    "stdout",
    "stderr",
    "__stdout__",
    "__stderr__",
}


def ways(source: str) -> Iterator[str]:
    """Every way in which this code could print."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id)) if id in NAMES - {"Progress"}:
                yield f"{node.lineno}: {id}(...)"
            case ast.Call(func=ast.Name("Progress"), keywords=given) if "console" not in {one.arg for one in given}:
                yield f"{node.lineno}: Progress without a console of ops.output"
            case ast.Call(func=ast.Attribute(ast.Name("os"), "write")):
                yield f"{node.lineno}: os.write(...)"
            case ast.Call(func=ast.Attribute(ast.Name("console" | "errors"), "print" | "log" | "out")):
                yield f"{node.lineno}: console.print(...)"
            case ast.Attribute(_, name) if name in ATTRIBUTES:
                yield f"{node.lineno}: .{name}"
            case ast.ImportFrom("rich", names=names) if any(one.name == "print" for one in names):
                yield f"{node.lineno}: rich.print"


def test_only_the_known_modules_print() -> None:
    files = [
        path
        for folder in ("contracts", "infra", "ops", *sorted(path.name for path in ROOT.glob("*_svc")))
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    allowed = {
        *PRINTERS,
        "infra/line_output.py",
        "infra/start.py",
        "infra/usage.py",
    }  # the last two before anything is set up
    found = [
        f"{name}:{way}"
        for path in files
        if (name := str(path.relative_to(ROOT))) not in allowed
        for way in ways(path.read_text(encoding="utf-8"))
        if name.startswith("ops/") or "Progress" not in way  # Rich's; order_svc has another
    ]

    assert len(files) > 100
    assert not found, "print through ops.output: " + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "print(letter.error)",
        "click.echo(f'{letter.key}')",
        "Console().print(f'[red]{error}[/]')",
        "console.print(error)",
        "Text.from_markup(f'[b]{name}[/b]')",
        "sys.stdout.write(name)",
        "from rich import print",
        "Progress(TextColumn('x'))",
        "os.write(1, name)",
    ],
)
def test_another_way_is_found(line: str) -> None:
    assert list(ways(line))


# What comes out -------------------------------------------------------------------------------------------------------


def harmless(text: str) -> bool:
    return all(one.isprintable() or one == "\n" for one in text)


def letter(text: str) -> DeadLetter:
    head, body = text.encode(errors="replace"), text.encode(errors="replace")
    return DeadLetter(7, text, text, NOW, 4, text, text, f"{text}.{text}", text, StreamPosition(1, 2), head, body)


def traced(text: str) -> list[trace.TraceLine]:
    return [
        trace.TraceLine(1, 0.5, text, text, "a", text, False, text, text),
        trace.TraceLine(2, 1.5, text, text, "b", text, True, text, text),
    ]


def moved(text: str) -> ledger.Movement:
    return ledger.Movement(1, NOW, text, text, 1, text, text, text)


def then(text: str) -> at.Then:
    return at.Then(text, 1, 1, NOW, text, {"note": text, "more": [text]})


def difference(text: str) -> Difference:
    return Difference(
        service="order", kind="differs", position=7, fact_id=text, cause=text, heard=text, recorded=(text,),
        now=(text,), fields=(Changed(text, text, text, text),), why=text,
    )  # fmt: skip


TEXTS: dict[str, Callable[[str], object]] = {
    "dlq show": lambda text: dead_letters.lines(
        letter(text), RedriveNote(1, 2, datetime(2026, 1, 31, tzinfo=UTC), text, text)
    ),
    "dlq ls": lambda text: dead_letters.table([letter(text)], {}),
    "trace": lambda text: trace.table(traced(text)),
    "trace --mermaid": lambda text: trace.mermaid(traced(text)),
    "ledger": lambda text: ledger.table("user", [moved(text)]),
    "trace --json": lambda text: trace.as_json(traced(text)),
    "at": lambda text: "\n".join(f"{name}  {cell(value)}" for name, value in at.lines(then(text))),
    "place": lambda text: "\n".join(
        map(cell, place.told(ServiceAnswer(503, {"type": f"/problems/{text}", "detail": text, "order_id": text}, {})))
    ),
    "what-if": lambda text: "\n".join(cell(line) for line, _ in what_if.lines(difference(text))),
}


@pytest.mark.parametrize("what", TEXTS)
@slow
@given(HOSTILE)
def test_no_command_lets_a_terminal_obey_what_others_wrote(what: str, text: str) -> None:
    made = TEXTS[what](text)
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        patch.setenv("COLUMNS", "4000")
        print_out(made)  # type: ignore[arg-type]
    shown = stream.getvalue()

    assert harmless(shown), ascii(shown)
    if what in {"dlq ls", "ledger", "trace", "trace --mermaid", "at", "place", "what-if"}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", ordinary := io.StringIO())
            patch.setenv("COLUMNS", "4000")
            print_out(TEXTS[what]("x"))  # type: ignore[arg-type]
        assert shown.count("\n") == ordinary.getvalue().count("\n"), f"a line was forged: {shown!a}"
    if what in {"dlq ls", "ledger", "trace"}:
        assert cell(text).strip() in shown, "markup was read, or text was lost"


@slow
@given(HOSTILE | st.text())
def test_json_is_harmless_and_means_the_same(text: str) -> None:
    text = text.encode(errors="replace").decode()
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        print_json({text: [text]})

    assert harmless(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue()) == {text: [text]}


@pytest.mark.parametrize(
    "document",
    [
        '{"a":\t1,\r\n"b\u202e":[2,\t"c"]}',
        '["a\\"\t]",\t"\\\\",\t"\u202e"]',
    ],
)
def test_white_space_between_the_tokens_of_json_stays_white_space(document: str) -> None:
    shown = escaped_json(document.encode())

    assert shown.isprintable()
    assert json.loads(shown) == json.loads(document, strict=False)


def test_what_is_no_json_is_harmless_too() -> None:
    assert escaped_json(b'\t"unfinished\t\\') == ' "unfinished\\u0009\\'


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert escaped_json(b'{"a": "\xff"}') == r'{"a": "\xff"}'


def test_a_style_is_ours_and_colours_stay(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    table = Table(box=None)
    table.add_column("fact")
    table.add_row("[b]\x1b[2J", style="red")

    print_out(table)
    print_out("\x1b[2J[b]", style="red")

    shown = capsys.readouterr().out
    assert shown.count(r"[b]\x1b[2J") == 1
    assert shown.count(r"\x1b[2J[b]") == 1
    assert "\x1b[31m" in shown
    assert "\x1b[2J" not in shown


def test_a_traceback_of_a_bug_is_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("\x1b[2J[/b]\x9b31m")

    print_traceback(ValueError, error, None)

    assert capsys.readouterr().err == "ValueError: \\x1b[2J[/b]\\x9b31m\n"


# On a real system -----------------------------------------------------------------------------------------------------


async def test_a_hostile_message_can_be_listed_shown_and_dropped(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await say(shop, "product.reserved.[/b]\x1b]0;x\x07\u202e", b"\x1b[2J\x9b31m not a fact", "[red]\x1b[31m")
        (found,) = await until_parked(shop, 1)
        number = str(found.sequence)

        outputs = [
            await orders(shop, "dlq", "ls"),
            await orders(shop, "dlq", "ls", "--json"),
            await orders(shop, "dlq", "show", number),
            await orders(shop, "dlq", "show", number, "--json"),
            await orders(shop, "dlq", "redrive", number),
            await orders(shop, "audit"),
            await orders(shop, "dlq", "drop", number, "--yes"),
        ]

        for done in outputs:
            assert harmless(done.stdout + done.stderr), ascii(done.stdout + done.stderr)
            assert "Traceback" not in done.stderr
        assert r"[/b]\x1b]0;x\x07\u202e" in outputs[0].stdout
        assert harmless(shop.log("point").read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ["what-if", "--history", "/nowhere\x1b[2J[/b]"],
        ["dlq", "show", "\x1b[2J[/b]"],
        ["\x1b]0;x\x07"],
        ["trace", "--\x9b31m"],
        ["at", "\x1b[31m", "x"],
        ["rebuild", "\x1b[2J[/b]"],
        ["replay", "--from", "/nowhere\x1b[2J"],
        ["audit", "--against", "/nowhere\x1b[2J"],
        ["place", "--user", "\x1b[2J", "mug:1"],
        ["export", "--dataset", "\x1b[2J"],
    ],
)
async def test_arguments_are_shown_and_not_obeyed(tmp_path: Path, arguments: list[str]) -> None:
    done = await orders(Shop(tmp_path), *arguments)

    assert done.returncode in (2, 3)
    assert harmless(done.stdout + done.stderr), ascii(done.stdout + done.stderr)
