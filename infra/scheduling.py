"""What this system asks of the kernel's scheduler."""

import contextlib
import os


def prefer_batches() -> None:
    """This process, and what it starts, is work to be done in batches (Linux's SCHED_BATCH; elsewhere nothing).

    A process that is woken up then does not push another one from its core, so that more messages wait when its turn
    comes and share one commit and one write. On a machine with a core to spare nothing changes.
    """
    with contextlib.suppress(AttributeError, OSError):  # another system, or a sandbox that does not allow it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
