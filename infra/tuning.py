"""Changes settings of the interpreter and the kernel: less CPU for the same work (decision 31), more open files."""

import contextlib
import gc
import os
import resource
from typing import Final

from infra.settings import SettingsError

GC_THRESHOLDS: Final = (20_000, 20, 50)
"""Thresholds of the cycle collector. The first: new objects before the youngest generation is searched; its default is
700, and 2,000 from CPython 3.13 on. The others: searches of one generation before one of the next."""


def tune_garbage_collection() -> None:
    """Search for reference cycles less often, and never again among the objects that exist now.

    Call this once, at the end of a process's start. Objects of requests and deliveries die young, by their reference
    counts. Searching for cycles at every 700 of them costs 5 % of a service's CPU.
    """
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def use_batch_scheduling() -> None:
    """Schedule this thread, and the threads and processes it starts later, as batch work (Linux's SCHED_BATCH).

    Nothing happens on other systems, or where it is not allowed. A batch process that is woken up does not preempt
    the running one. So more messages wait when its turn comes, and share one commit and one write.
    """
    with contextlib.suppress(AttributeError, OSError):  # another system, or a sandbox that does not allow it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


PLENTY: Final = 65_536

LEAST_OPEN_FILES: Final = 512
"""Half of them for the store, the read models and the broker, the rest for clients."""


def raise_open_file_limit(plenty: int = PLENTY) -> int:
    """Raise this process's limit of open files (RLIMIT_NOFILE) up to `plenty`, but not above its hard limit.

    Returns the limit that now holds; `plenty` if files are unlimited. The limit is never lowered. Shells often set the
    limit to 1,024 for the sake of select(), which no service uses.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (plenty if limit == resource.RLIM_INFINITY else limit for limit in limits)
    most = max(soft, min(hard, plenty))
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    return most


def require_open_files() -> None:
    """Raise the limit of open files. Raises SettingsError if fewer than LEAST_OPEN_FILES are allowed even then."""
    most = raise_open_file_limit()
    if most < LEAST_OPEN_FILES:
        raise SettingsError(
            f"this process may open {most} files, and needs {LEAST_OPEN_FILES}: raise the hard limit (ulimit -Hn, "
            "LimitNOFILE of systemd, --ulimit nofile of a container)"
        )


def prepare_process() -> None:
    """Do at a process's start what its children inherit: `require_open_files` and `use_batch_scheduling`.

    Raises SettingsError as `require_open_files` does.
    """
    require_open_files()
    use_batch_scheduling()
