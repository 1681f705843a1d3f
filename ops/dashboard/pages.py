"""Makes HTML of the templates: every text is escaped, every page has the same strict headers, files have their hash."""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar.response import Response

from infra.printable import printable
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


def _shown(value: Any) -> Any:
    """Make a text that others wrote harmless to read: HTML shows what is not printable, too, or obeys it."""
    return printable(value, keep="\n") if isinstance(value, str) and not hasattr(value, "__html__") else value


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
    made.filters |= {"duration": duration, "instant": shown_time}
    made.globals["static"] = static_url
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
