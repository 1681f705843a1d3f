"""What an open page is sent: server-sent events, most with the HTML of its changing part. The newest one is enough.

An event's id says how far it is, so after a lost connection the browser asks for what is newer (Last-Event-ID).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any, Final

from litestar import Request
from litestar.response import Stream

from ops.dashboard.pages import HEADERS
from ops.dashboard.poller import Poller, Snapshot

LIVE: Final = {**HEADERS, "X-Accel-Buffering": "no"}
PING: Final = b": still here\n\n"
"""A comment: a proxy, or a browser, learns from it that the connection is alive."""
FINISHED: Final = "finished"
"""The event after which nothing more comes: the page closes its connection."""
TROUBLE: Final = "trouble"
"""The event that says in words why the page cannot be kept up to date now."""
NEW: Final = "new"
"""The event that says how many rows would be before the first one that a list shows."""
MOST_DIGITS: Final = 18


def event(text: str, its_id: int, name: str = "") -> bytes:
    """Return a server-sent event as it is sent; `text` may have several lines. `name`: its type; empty: plain."""
    lines = [f"id: {its_id}", *([f"event: {name}"] if name else []), *(f"data: {line}" for line in text.splitlines())]
    return ("\n".join(lines) + "\n\n").encode()


Until = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]

UNTIL: Final[ContextVar[Until | None]] = ContextVar("UNTIL", default=None)
"""Ends the events of the request at hand when who has sent it is signed out; None: nobody has to sign in."""


def answer(events: AsyncIterator[bytes]) -> Stream:
    until = UNTIL.get()
    return Stream(events if until is None else until(events), media_type="text/event-stream", headers=LIVE)


def seen_last(request: Request[Any, Any, Any]) -> int:
    """Return the id of the last event that the page has seen; 0: the request has none, or no valid one.

    After a lost connection the browser sends the id in a header. A page that was in the background sends it as `after`.
    """
    text = request.headers.get("last-event-id") or request.query_params.get("after") or ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else 0


async def snapshots(poller: Poller, draw: Callable[[Snapshot], str], after: int) -> AsyncGenerator[bytes, None]:
    """Yield an event with the HTML that `draw` makes of each snapshot numbered above `after`, until the poller closes.

    Snapshots that were replaced by a newer one meanwhile are left out. An `after` above the latest number is of an
    earlier process, and counts as 0.
    """
    with poller.watching():
        latest = await poller.after(0)  # before the first look nothing says whose number `after` is
        if latest is not None and after > latest.number:
            after = 0
        while (seen := await poller.after(after)) is not None:
            after = seen.number
            yield event(draw(seen), seen.number)
