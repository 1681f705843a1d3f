"""The common parts of the commands of `orders`: how they end, their exit codes, and their parameter types."""

import contextlib
import errno
import functools
import math
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, NoReturn, ParamSpec, cast

import rich_click as click

from contracts.ids import MEANING, is_id
from infra.printable import printable
from infra.settings import SettingsError
from infra.store.errors import StoreError, next_step
from infra.timestamps import parse_time
from infra.usage import EXIT_USAGE
from ops.errors import Found, RecordedByNewerCode, TooLate, Unreachable, Unusable
from ops.output import discard_out, flush_out, print_out

EXIT_FINDING: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_NEWER: Final = 4
EXIT_INTERRUPTED: Final = 130
EXIT_NO_READER: Final = 141
"""As a shell shows a process that SIGPIPE ended: nobody reads standard output any more."""

LARGEST: Final = (1 << 63) - 1
"""The largest sequence or position that the broker and SQLite take."""

DAMAGED: Final = "just audit --full says whether a store is damaged"

SHOWN: Final = 40  # characters of a wrong value in its error

Arguments = ParamSpec("Arguments")


def ending_well(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Wrap a command so that its errors end the process with an exit code that scripts can use.

    Found gives 1, Unusable and SettingsError 2, Unreachable, StoreError and sqlite3.Error 3, RecordedByNewerCode 4. An
    OSError that names its file gives 2, unless it is EPIPE. The message goes to standard error; for TooLate it also
    names `--timeout` (see `timeout_option`). Other exceptions pass. A command that returns ends with 0.
    """

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Found as finding:
            end(str(finding), EXIT_FINDING)
        except RecordedByNewerCode as newer:
            end(str(newer), EXIT_NEWER)
        except (SettingsError, Unusable) as error:
            end(str(error), EXIT_USAGE)
        except (Unreachable, StoreError) as error:
            late = any(isinstance(one, TooLate) for one in (error, error.__cause__))
            end(f"{error}\n--timeout waits longer" if late else str(error), EXIT_UNREACHABLE)
        except sqlite3.Error as error:
            end(f"a database cannot be read or written: {error}. {next_step(error, DAMAGED)}", EXIT_UNREACHABLE)
        except OSError as error:
            if error.errno == errno.EPIPE or error.filename is None:
                raise
            end(f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}", EXIT_USAGE)

    return run


def end(why: str, code: int) -> NoReturn:
    """End the process with this exit code: raise SystemExit. A `why` that is not empty goes to standard error."""
    if why:
        print_out(why, error=True)
    raise SystemExit(code)


def uv() -> str:
    """Return the command by which the user can run uv: `uv`, or the path of the uv that started this process."""
    started_by = os.environ.get("UV")
    return "uv" if started_by is None or shutil.which("uv") == started_by else os.path.relpath(started_by)


class Command(click.RichCommand):
    """A command whose messages about wrong usage show the arguments, and never let a terminal obey them.

    Ctrl-C ends it with EXIT_INTERRUPTED, unless the command handles that itself. If nobody reads its standard output
    any more, it ends with EXIT_NO_READER; after another OSError with EXIT_USAGE. It ends so without a traceback.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.RichContext:
        with _quietly_ended(), _shown():
            return cast(click.RichContext, super().make_context(info_name, args, parent, **extra))

    def invoke(self, ctx: click.Context) -> Any:
        with _quietly_ended(), _shown():
            return super().invoke(ctx)


class CommandGroup(Command, click.RichGroup):  # type: ignore[misc]
    """A group of commands: its errors and those of its commands are shown, and end the process, as a Command's do."""


@contextlib.contextmanager
def _quietly_ended() -> Iterator[None]:
    """Write out what the block has printed. End the process after Ctrl-C or an OSError, in the block or in writing.

    click would end the process with 1, which is the exit code of a finding.
    """
    try:
        try:
            yield
        finally:
            flush_out()
    except KeyboardInterrupt:
        end("stopped", EXIT_INTERRUPTED)
    except OSError as error:  # of standard output, or of a file without a name
        discard_out()
        if error.errno == errno.EPIPE:
            raise SystemExit(EXIT_NO_READER) from None
        end(f"what this command prints or writes cannot be written: {error.strerror or error}", EXIT_USAGE)


@contextlib.contextmanager
def _shown() -> Iterator[None]:
    """Escape what is not printable in the texts of an error that click is about to show."""
    try:
        yield
    except click.ClickException as error:
        for name in ("message", "ui_filename", "param_hint", "option_name"):
            if isinstance(text := getattr(error, name, None), str):
                setattr(error, name, printable(text, keep="\n"))
        raise


class Instant(click.ParamType[datetime]):
    """A parameter that is a time as `infra.timestamps.parse_time` takes it; its value is an aware datetime."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class IdParameter(click.ParamType[str]):
    """A parameter that is an id by the rule of `contracts.ids`; another text is wrong usage (exit code 2)."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_id(value):
            self.fail(MEANING, param, ctx)
        return str(value)


class WholeNumber(click.ParamType[int]):
    """A parameter that is a whole number from `least` to `most`, both included."""

    name = "number"

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        if re.fullmatch("[+-]?[0-9]+", text) is None:
            self.fail(f"{text[:SHOWN]!r} is not a whole number", param, ctx)
        number = int(text) if len(text) <= SHOWN else self._most + 1 if text[0] != "-" else self._least - 1
        if number < self._least:
            self.fail(f"{text[:SHOWN]} is too small: {self._least} is the least", param, ctx)
        if number > self._most:
            self.fail(f"{text[:SHOWN]} is too large: {self._most} is the most", param, ctx)
        return number


class SecondsParameter(click.ParamType[float]):
    """A parameter that is a number of seconds from 0 to `most`, both included; 0 is refused if `positive`."""

    name = "seconds"

    def __init__(self, most: float, *, positive: bool) -> None:
        self._most = most
        self._positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number <= self._most or (self._positive and not number):  # not a number is outside, too
            least = "above 0" if self._positive else "from 0"
            self.fail(f"{str(value)[:SHOWN]!r} is not a number of seconds {least} up to {self._most:g}", param, ctx)
        return number


def timeout_option(default_s: float | None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option `--timeout`: how many seconds to wait for a service's answer at most (argument `timeout`).

    `default_s` None: without the option the argument is None.
    """
    return click.option(
        "--timeout",
        type=SecondsParameter(86_400, positive=True),
        default=default_s,
        show_default=default_s is not None,
        metavar="SECONDS",
        help="The longest wait for a service's answer.",
    )


INSTANT: Final = Instant()
SEQUENCE: Final = WholeNumber(1, LARGEST)
"""A sequence of a stream, or a position of a log."""
TIMES: Final = "2026-01-31T09:00:00+09:00, -5m, or local: 15:32, 2026-01-31 15:32"
ID: Final = IdParameter()
