"""`orders rebuild`, killed before its CRASH_AT-th step that changes a file: those by which a store is exchanged."""

import os
import signal
from collections.abc import Callable
from typing import Any

from infra import files
from ops import orders
from ops.rebuild import store

left = int(os.environ["CRASH_AT"])


def counted(step: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        global left  # noqa: PLW0603 - one process, one crash
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args)

    return run


for name in ("rename", "sync_file", "sync_folder"):
    setattr(files, name, counted(getattr(files, name)))
store._keep = counted(store._keep)

if __name__ == "__main__":
    orders.main()
