"""Reads the ids of a user's orders, or of those that are pending there, from the order list of order_svc.

It reads the file of that read model below DATA_DIR, so the service need not run.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from infra.store.connection import connect_read_only
from ops import stores
from ops.find.criteria import Criteria
from order_svc.listing import LEFT_OPEN, Listing

OF_USER: Final = "SELECT order_id FROM orders WHERE user_id = ?"
CHECKPOINT: Final = "SELECT position FROM position"


class Listed(NamedTuple):
    """The ids of the wanted orders that the order list has, and its `checkpoint`: up to which position it has read.

    Facts after the checkpoint have to be looked for in the log: with 0, the default, all facts. `trouble`: why the list
    cannot be read; empty: it was read, or not needed.
    """

    checkpoint: int = 0
    order_ids: Sequence[str] = ()
    trouble: str = ""


async def listed(env: Mapping[str, str], criteria: Criteria) -> Listed:
    """Return the ids that the list has of the wanted user's orders, or without a user of pending ones, if wanted.

    For other criteria return Listed(), and do not read the list. Raises SettingsError.
    """
    if criteria.user is not None:
        query, parameters = OF_USER, [criteria.user]
    elif criteria.status == "PENDING":
        query, parameters = LEFT_OPEN, []
    else:
        return Listed()
    path = stores.folder(env, "order") / f"{Listing.name}.view.sqlite"
    try:
        async with connect_read_only(path) as view:
            await view.execute("BEGIN")  # checkpoint and rows of one moment
            positions = list(await view.execute_fetchall(CHECKPOINT))
            rows = await view.execute_fetchall(query, parameters)
            return Listed(int(positions[0][0]) if positions else 0, [str(row[0]) for row in rows])
    except sqlite3.Error as error:
        return Listed(trouble=f"the order list {path} cannot be read ({error}), so the log is read")
