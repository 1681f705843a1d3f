"""What operators did: who, from where, what, on what, why, and the result; lines are only added to the file.

Each line has the SHA-256 of the line before it, so a line that was changed, moved or taken out shows. The intent is
on disk before anything is done, the outcome after. An intent without an outcome: the result is not known.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import structlog
from msgspec import Struct

from infra.files import PRIVATE, sync_folder
from infra.http.access import CALLER, AnyConnection
from infra.http.problems import Problem, unavailable
from infra.timestamps import now

logger = structlog.get_logger()

FILE: Final = "operators.jsonl"
"""In the folder of a service's data."""
FIRST: Final = hashlib.sha256(b"").hexdigest()
"""What the first line has as the hash of the line before it."""
NEXT_STEP: Final = "make room on its disk, or give the service the right to write there"

ActionOutcome = Literal["done", "fails", "refused", "unavailable", "error"]


class Action(Struct, kw_only=True, omit_defaults=True):
    """A line of the log. `kind` intent: all but `outcome` are filled as far as they are known; outcome: that alone.

    `operation`: the number of the intent's line, from 1. `previous`: the hash of the line before. `who`: the subject of
    the caller's token; empty where nobody needs one. `client`: the address from which the request came. `target`: on
    what, such as a consumer and a key. `preview`: the hash of the preview that the operator had seen.
    """

    operation: int
    at: str
    kind: Literal["intent", "outcome"]
    previous: str
    action: str = ""
    who: str = ""
    client: str = ""
    target: dict[str, Any] = {}
    reason: str = ""
    preview: str = ""
    outcome: str = ""


class RunningAction:
    """An action that is being done; `outcome` is its result so far, unless it ends with an error."""

    outcome: ActionOutcome = "done"


class ActionLog:
    """Adds to the log of one service. One process at a time may use a file."""

    def __init__(self, path: Path) -> None:
        """Find the end of the log. Raises OSError if the file cannot be read or written.

        What a crash left of a line is taken away: nothing was done after it.
        """
        self._path = path
        self._lock = asyncio.Lock()
        path.touch(PRIVATE)
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(path, len(whole))
        lines = whole.splitlines()
        self._lines = len(lines)
        self._last = hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST
        sync_folder(path.parent)

    @property
    def head(self) -> tuple[int, str]:
        """The number of lines, and the hash of the last one: what was taken off the end is seen beside these."""
        return self._lines, self._last

    @contextlib.asynccontextmanager
    async def operation(
        self, request: AnyConnection, action: str, target: dict[str, Any], *, reason: str = "", preview: str = ""
    ) -> AsyncIterator[RunningAction]:
        """Note the intent, then the outcome of the block. Raises Problem, 503, if the intent cannot be noted.

        If the outcome cannot be noted, the service's log says so: what was done is done.
        """
        caller = request.scope["state"].get(CALLER)
        client = request.scope.get("client")
        intent: dict[str, Any] = {
            "action": action,
            "who": "" if caller is None else caller.subject,
            "client": "" if not client else str(client[0]),
            "target": target,
            "reason": reason,
            "preview": preview,
        }
        try:
            number = await self._add("intent", 0, intent)
        except OSError as error:
            logger.error("an operator's action cannot be noted, so it is refused", action=action, error=str(error))
            why = f"the operators' log {self._path} cannot be written ({error.strerror}), so nothing is done"
            raise unavailable(f"{why}; {NEXT_STEP}") from error
        running = RunningAction()
        try:
            yield running
        except BaseException as error:
            running.outcome = _outcome(error)
            raise
        finally:
            try:
                await asyncio.shield(self._add("outcome", number, {"outcome": running.outcome}))
            except OSError as error:
                logger.error(
                    "the outcome of an operator's action cannot be noted",
                    action=action,
                    outcome=running.outcome,
                    error=str(error),
                )

    async def _add(self, kind: Literal["intent", "outcome"], operation: int, fields: dict[str, Any]) -> int:
        async with self._lock:
            number = self._lines + 1
            at = now().isoformat(timespec="milliseconds")
            line = Action(operation=operation or number, at=at, kind=kind, previous=self._last, **fields)
            content = msgspec.json.encode(line)
            await asyncio.to_thread(self._write, content + b"\n")
            self._lines, self._last = number, hashlib.sha256(content).hexdigest()
            return number

    def _write(self, line: bytes) -> None:
        size = self._path.stat().st_size
        try:
            with self._path.open("ab", buffering=0) as file:
                if file.write(line) != len(line):
                    raise OSError(None, "a part of the line was written")
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self._path, size)
            raise


@contextlib.asynccontextmanager
async def noted(
    log: ActionLog | None,
    request: AnyConnection,
    action: str,
    target: dict[str, Any],
    *,
    reason: str = "",
    preview: str = "",
) -> AsyncIterator[RunningAction]:
    """Note the block as `ActionLog.operation` does; do nothing if `log` is None."""
    if log is None:
        yield RunningAction()
        return
    async with log.operation(request, action, target, reason=reason, preview=preview) as running:
        yield running


def _outcome(error: BaseException) -> ActionOutcome:
    if isinstance(error, Problem):
        return "unavailable" if error.body.status >= 500 else "refused"
    return "error"


class Damage(Struct):
    """What is wrong with a log, at which line (from 1)."""

    line: int
    why: str


def read_log(path: Path) -> Iterator[Action | Damage]:
    """Yield the lines of a log, and a Damage before each that does not follow from the line before it.

    Nothing of a missing file is yielded. Raises OSError if it cannot be read.
    """
    if not path.exists():
        return
    previous = FIRST
    content = path.read_bytes()
    for number, line in enumerate(content.splitlines(), 1):
        try:
            action = msgspec.json.decode(line, type=Action)
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield Damage(number, "it is no line of this log")
        else:
            if action.previous != previous:
                yield Damage(number, "the line before it was changed, moved or taken out")
            if action.kind == "intent" and action.operation != number:
                yield Damage(number, f"it was line {action.operation}")
            yield action
        previous = hashlib.sha256(line).hexdigest()
    if content and not content.endswith(b"\n"):
        yield Damage(number, "it was not written to its end")
