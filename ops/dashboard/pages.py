"""Makes HTML of the templates: every text is escaped, and every page has the same strict headers.

It also reads the files that pages load, each under a path with the file's hash.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar.response import Response

from infra.printable import printable
from infra.timestamps import now
from ops.dashboard.sessions import OPERATOR, may_act
from ops.dashboard.to_copy import message_command
from ops.details import shown_time
from ops.status.concern import duration

HERE: Final = Path(__file__).parent
KINDS: Final = {"dashboard.css": "text/css", "dashboard.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""Media types of the files that a page may load."""

POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, a browser sends a form with the origin `null`
    "Cache-Control": "no-store",
}
FOR_EVER: Final = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}

_SAID: Final = re.compile(r"((?:\d{4}-\d\d-\d\d )?)(\d\d:\d\d:\d\d(?:\.\d{3})?) UTC", re.ASCII)
"""A time in the words of a service, of the last day if it has no date."""


def _shown(value: Any) -> Any:
    """Return a text with unprintable characters replaced, except line feeds; Markup and other values as they are."""
    return printable(value, keep="\n") if isinstance(value, str) and not hasattr(value, "__html__") else value


class SaidTime(NamedTuple):
    """A time as a text has it, in UTC, and which instant it is."""

    text: str
    at: datetime


def split_by_time(text: str) -> list[str | SaidTime]:
    """Split a text at its times in UTC: each is a SaidTime, so that a page can show it in another time zone.

    A time that does not exist, such as 25:00:00, stays a part of the text.
    """
    parts: list[str | SaidTime] = []
    end = 0
    for found in _SAID.finditer(text):
        with suppress(ValueError, OverflowError):  # an hour 25: it stays as it is
            parts += [text[end : found.start()], SaidTime(found[0], _at(*found.groups()))]
            end = found.end()
    return [*parts, text[end:]]


def _at(day: str, clock: str) -> datetime:
    """Return the instant of `clock` (`HH:MM:SS` or `HH:MM:SS.mmm`, UTC) on `day` (`YYYY-MM-DD `, with its blank).

    Empty `day`: the last such instant that is at most 1 minute after now. Raises ValueError if there is no such time.
    """
    latest = now() + timedelta(minutes=1)  # clocks of two processes may differ
    at = datetime.fromisoformat(f"{day or f'{latest:%Y-%m-%d} '}{clock}").replace(tzinfo=UTC)
    return at if day or at <= latest else at - timedelta(days=1)


@cache
def environment() -> Environment:
    """Return the templates' environment. A name that a template misspells is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "duration": duration,
        "instant": shown_time,
        "message_command": message_command,
        "split_by_time": split_by_time,
    }
    made.globals |= {"static": static_url, "operator": OPERATOR.get, "may_act": may_act}
    return made


@cache
def static_file(name: str) -> bytes:
    """Read a file that pages load. Raises KeyError if there is none of this name."""
    if name not in KINDS:
        raise KeyError(name)
    return (HERE / "static" / name).read_bytes()


@cache
def static_url(name: str) -> str:
    """Return the path of a file: it has the file's hash, so a browser may keep it for ever."""
    return f"/static/{sha256(static_file(name)).hexdigest()[:16]}/{name}"


def render(template: str, **values: Any) -> str:
    return environment().get_template(template).render(values)


def page(template: str, status: int = 200, **values: Any) -> Response[str]:
    return Response(render(template, **values), status_code=status, media_type="text/html", headers=dict(HEADERS))
