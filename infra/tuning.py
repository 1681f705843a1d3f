"""What this system asks of the kernel's scheduler."""

import contextlib
import os
import resource
from typing import Final


def use_batch_scheduling() -> None:
    """This process, and what it starts, is work to be done in batches (Linux's SCHED_BATCH; elsewhere nothing).

    A process that is woken up then does not push another one from its core, so that more messages wait when its turn
    comes and share one commit and one write. On a machine with a core to spare nothing changes.
    """
    with contextlib.suppress(AttributeError, OSError):  # another system, or a sandbox that does not allow it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


PLENTY: Final = 65_536


def raise_open_file_limit(plenty: int = PLENTY) -> int:
    """Take as many as this process may without asking anybody, up to `plenty`; gives how many these are.

    A shell often lets what runs in it have 1,024, because of select(), which nobody here uses.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (plenty if limit == resource.RLIM_INFINITY else limit for limit in limits)
    most = max(soft, min(hard, plenty))
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    return most
