"""`orders archive`, which kills itself (SIGKILL) at the step that CRASH_AT names; without one it comes to its end.

written   the files are written, and nothing of them is proven
proven    they are proven, and the manifest is not written
archived  the manifest is written, and the stream is still there
labeled   the streams that stay know of it, and the stream is still there
deleted   the stream is gone, and nobody was told
"""

import inspect
import os
import signal
from collections.abc import Callable
from typing import Any, Final

from nats.js import JetStreamContext

from infra.archive.places import Folder
from infra.broker import archive_label
from ops.archive.command import command

STEPS: Final[dict[str, tuple[Any, str]]] = {
    "written": (Folder, "add"),
    "proven": (Folder, "publish"),
    "archived": (Folder, "publish"),
    "labeled": (archive_label, "put"),
    "deleted": (JetStreamContext, "delete_stream"),
}
"""What a step is at, and in which place it is."""
BEFORE: Final = frozenset({"proven"})
"""The steps that are just before, not behind."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, and then the end."""

    async def awaited(*arguments: Any, **more: Any) -> None:
        await call(*arguments, **more)
        die()

    def called(*arguments: Any, **more: Any) -> None:
        call(*arguments, **more)
        die()

    return awaited if inspect.iscoroutinefunction(call) else called


if __name__ == "__main__":
    if step := os.environ.get("CRASH_AT"):
        owner, name = STEPS[step]
        setattr(owner, name, (lambda *_: die()) if step in BEFORE else dying(getattr(owner, name)))
    command()
