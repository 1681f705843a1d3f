"""The common parts of the commands of `orders`: their exit codes, and their parameter types."""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, NoReturn, ParamSpec, cast

import rich_click as click

from contracts.ids import MEANING, is_id
from infra.printable import printable
from infra.settings import SettingsError
from infra.store.errors import StoreError
from infra.timestamps import parse_time
from infra.usage import EXIT_USAGE
from ops.errors import Found, RecordedByNewerCode, Unreachable, Unusable
from ops.output import print_out

EXIT_FINDING: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_NEWER: Final = 4

Arguments = ParamSpec("Arguments")


def ending_well(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Wrap a command so that its errors end the process with an exit code that scripts can use.

    Found gives 1, Unusable and SettingsError 2, Unreachable and StoreError 3, RecordedByNewerCode 4; the
    message goes to standard error. Other
    exceptions pass. A command that returns ends with 0.
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
            end(str(error), EXIT_UNREACHABLE)

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


class CommandGroup(click.RichGroup):
    """A group of commands whose messages about wrong usage show the arguments, and never let a terminal obey them."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.RichContext:
        with _shown():
            return cast(click.RichContext, super().make_context(info_name, args, parent, **extra))

    def invoke(self, ctx: click.Context) -> Any:
        with _shown():
            return super().invoke(ctx)


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


INSTANT: Final = Instant()
TIMES: Final = "2026-01-31T09:00:00+09:00, -5m, or local: 15:32, 2026-01-31 15:32"
ID: Final = IdParameter()
