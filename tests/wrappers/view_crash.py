"""The process kills itself (SIGKILL) while a read model is fed, at the step that CRASH_AT names.

uncommitted   a transaction of the view is complete but for its commit
committed     it is committed, and the delivery is not acknowledged
"""

import os
import signal
from collections.abc import Sequence

import aiosqlite

from infra.read_models.tables import Checkpoint, Tables
from infra.store.records import Notification
from tests.wrappers import run_wrapped

commit = aiosqlite.Connection.commit
apply = Tables.apply


async def crash_before_commit(self: aiosqlite.Connection) -> None:
    if (await (await self.execute("SELECT count(*) FROM position")).fetchone()) == (1,):  # not the empty tables'
        os.kill(os.getpid(), signal.SIGKILL)
    await commit(self)


async def crash_after_commit(self: Tables, records: Sequence[Notification], checkpoint: Checkpoint) -> None:
    await apply(self, records, checkpoint)
    if self.path.name.startswith(os.environ["CRASH_VIEW"]):
        os.kill(os.getpid(), signal.SIGKILL)


match os.environ["CRASH_AT"]:
    case "uncommitted":
        aiosqlite.Connection.commit = crash_before_commit  # type: ignore[method-assign]
    case "committed":
        Tables.apply = crash_after_commit  # type: ignore[method-assign]

if __name__ == "__main__":
    run_wrapped()
