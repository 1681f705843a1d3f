"""The common parts of the commands of `orders`: their exit codes, and their parameter types."""

import functools
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
    """The command with the exit codes that scripts can use: 0 good, 1 a finding, 2 wrong usage, 3 unreachable."""

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
    """End the process with this exit code; `why` goes to standard error."""
    if why:
        click.echo(why, err=True)
    raise SystemExit(code)


class Instant(click.ParamType[datetime]):
    """A time with its offset: without one, it would be a different time in each zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_instant(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class IdParameter(click.ParamType[str]):
    """A parameter that is an id by the rule of `contracts.ids`."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_id(value):
            self.fail(MEANING, param, ctx)
        return str(value)


INSTANT: Final = Instant()
ID: Final = IdParameter()
