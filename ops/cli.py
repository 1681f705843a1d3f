"""The common parts of the commands of `orders`: their exit codes, and their parameter types."""

import functools
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NoReturn, ParamSpec

import rich_click as click

from contracts.ids import MEANING, is_id
from infra.settings import SettingsError
from infra.store.errors import StoreError
from infra.timestamps import parse_instant
from ops.errors import Found, Unreachable, Unusable

EXIT_FINDING: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3

Arguments = ParamSpec("Arguments")


def ending_well(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Wrap a command so that its errors end the process with an exit code that scripts can use.

    Found gives 1, Unusable and SettingsError 2, Unreachable and StoreError 3; the message goes to standard error. Other
    exceptions pass. A command that returns ends with 0.
    """

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Found as finding:
            end(str(finding), EXIT_FINDING)
        except (SettingsError, Unusable) as error:
            end(str(error), EXIT_USAGE)
        except (Unreachable, StoreError) as error:
            end(str(error), EXIT_UNREACHABLE)

    return run


def end(why: str, code: int) -> NoReturn:
    """End the process with this exit code: raise SystemExit. A `why` that is not empty goes to standard error."""
    if why:
        click.echo(why, err=True)
    raise SystemExit(code)


def uv() -> str:
    """Return the command by which the user can run uv: `uv`, or the path of the uv that started this process."""
    started_by = os.environ.get("UV")
    return "uv" if started_by is None or shutil.which("uv") == started_by else os.path.relpath(started_by)


class Instant(click.ParamType[datetime]):
    """A parameter that is an RFC 3339 time with its UTC offset; its value is an aware datetime.

    A time without an offset is refused: it would be a different instant in each zone.
    """

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_instant(value)
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
ID: Final = IdParameter()
