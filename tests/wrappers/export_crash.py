"""The export kills itself (SIGKILL) at the step that CRASH_AT names, the CRASH_AFTER-th time it gets there.

in hand     rows are read, nothing of them is written
written     a file's (or the cursor's) content is written, under its temporary name
synced      that content is on the disk
named       it has its name, which may not be on the disk yet
committed   a file is committed, the rest of its batch is not
sent        the receiver has acknowledged a batch, the cursor does not know it
dropped     a backfill has dropped a file, the others are still there
made        a day's small files are put together, the day still has them
swapped     the day has what was made, which may not be on the disk yet
"""

import os
import signal
from collections.abc import Callable
from functools import wraps
from typing import Any

from infra import files
from infra.export.exporter import Exporter
from infra.export.file_sink import FileSink
from infra.export.http_sink import HttpSink
from ops.orders import main

remaining = int(os.environ["CRASH_AFTER"])


def crash_if_due() -> None:
    global remaining  # noqa: PLW0603
    remaining -= 1
    if remaining <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def before(step: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(step)
    def crashing(*arguments: Any) -> Any:
        crash_if_due()
        return step(*arguments)

    return crashing


def after(step: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(step)
    def crashing(*arguments: Any) -> Any:
        done = step(*arguments)
        crash_if_due()
        return done

    return crashing


def after_await(step: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(step)
    async def crashing(*arguments: Any) -> Any:
        done = await step(*arguments)
        crash_if_due()
        return done

    return crashing


patches: dict[str, tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    "in hand": (Exporter, "_commit", before),
    "written": (files, "sync_file", before),
    "synced": (files, "rename", before),
    "named": (files, "rename", after),
    "committed": (FileSink, "_write", after),
    "sent": (HttpSink, "_ask", after_await),
    "dropped": (files, "remove", after),
    "made": (files, "exchange", before),
    "swapped": (files, "exchange", after),
}
owner, name, patch = patches[os.environ["CRASH_AT"]]
setattr(owner, name, patch(getattr(owner, name)))

if __name__ == "__main__":
    main()
