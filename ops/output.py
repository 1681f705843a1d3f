"""Prints what commands answer; others wrote most of it.

Names, ids, errors, subjects and file names come from clients, other publishers and stores. A terminal shows them and
never obeys them, and nothing in them is markup. What is not printable is escaped; see infra.printable.
"""

import contextlib
import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
import rich_click as click
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from infra.printable import printable

LINES: Final = "\n\t"
"""What a text that has several lines may have besides printable characters."""

UNBROKEN: Final = 10_000
"""Columns in which every line of a table has room."""

PADDING: Final = 2  # columns beside each cell of a table

_SPACE: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\t\r\n]', re.DOTALL)
"""In JSON: a whole string, or a white space outside of strings, which may not be escaped."""


def print_out(what: RenderableType, *, style: str = "", error: bool = False, wrap: bool = True) -> None:
    """Print a text or a table of Rich on standard output, or as an `error` on standard error.

    A text may have several lines; without a `style` none of them is broken. `style` is one of Rich's, such as "red".
    `wrap`: break the lines of a text with a style at the terminal's width. A table's lines are always broken there. No
    word of a table is cut, such as an id: one that needs more columns is wider than the terminal. A file or pipe is
    UNBROKEN columns wide, unless COLUMNS says otherwise.
    """
    if isinstance(what, str) and not style:
        click.echo(printable(what, keep=LINES), err=error)
        return
    shown = Text(printable(what, keep=LINES)) if isinstance(what, str) else _Printable(what)
    screen = console(error=error)
    if not screen.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        screen.width = UNBROKEN
    elif isinstance(what, Table):
        _keep_words(what, screen)
    screen.print(shown, style=style or None, soft_wrap=not wrap, crop=not isinstance(what, Table))


def _keep_words(table: Table, screen: Console) -> None:
    """Make each column of the table at least as wide as its longest word, and the screen as wide as all of them.

    A column with `no_wrap` gets the width of its longest line.
    """
    unbroken = screen.options.update(width=UNBROKEN)
    for column in table.columns:
        cells = [Measurement.get(screen, unbroken, one) for one in (column.header, *column.cells)]
        column.min_width = max(one.maximum if column.no_wrap else one.minimum for one in cells)
    screen.width = max(screen.width, sum((column.min_width or 0) + PADDING for column in table.columns))


def print_json(value: Any, enc_hook: Callable[[Any], Any] | None = None) -> None:
    r"""Print the value as one line of JSON; a character that is not printable (`str.isprintable`) becomes `\u....`."""
    click.echo(escaped_json(msgspec.json.encode(value, enc_hook=enc_hook)))


def print_line(line: bytes, *, flush: bool) -> None:
    """Write one line of JSON to standard output: byte for byte into a file or pipe, escaped on a terminal."""
    data = escaped_json(line).encode() if sys.stdout.isatty() else line
    sys.stdout.buffer.write(data + b"\n")
    if flush:
        sys.stdout.buffer.flush()


def clear_terminal() -> None:
    """Clear the terminal, for the next screen; do nothing if standard output is no terminal."""
    click.clear()


def prepare_output() -> None:
    """Make standard output and standard error take every text: what their encoding lacks is written as an escape.

    One that was closed before the process began becomes the null device.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before the process began
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_out() -> None:
    """Write out what was printed on standard output. Raises OSError."""
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_out() -> None:
    """Drop what standard output cannot take, so that the interpreter's end does not try to write it once more."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an error that nothing handled, as a sys.excepthook, on standard error.

    What is not printable in it is escaped: a client may have written a part of the error's text.
    """
    print_out("".join(traceback.format_exception(kind, error, trace)).rstrip(), error=True)


def escaped_json(document: bytes) -> str:
    r"""Return the JSON document with its invisible characters escaped: it means the same to every reader.

    Line breaks and tabs outside of strings become spaces. A byte that is not UTF-8 becomes `\x..`, which is not JSON.
    """
    text = document.decode(errors="backslashreplace")
    return text if text.isprintable() else "".join(map(_in_json, _SPACE.sub(_on_one_line, text)))


def console(*, error: bool = False) -> Console:
    """Return a console of Rich, for `print_out` and progress bars: it reads no text as markup, emoji or numbers."""
    return _Console(stderr=error, markup=False, emoji=False, highlight=False)


def cell(text: str) -> str:
    """Return a text that others wrote, fit for a cell or a field of one line: line feeds, too, are escaped in it."""
    return printable(text)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the error pass, for `ops.cli` to handle. Rich would end the process with 1, which is a finding."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads it")


class _Printable:
    """Renders another renderable, and escapes what is not printable in its text; its styles stay."""

    def __init__(self, what: RenderableType) -> None:
        self._what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._what, options):
            yield segment if segment.control else Segment(printable(segment.text, keep="\n"), segment.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._what)


def _on_one_line(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else " "


def _in_json(one: str) -> str:
    if one.isprintable():
        return one
    code = ord(one)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"
