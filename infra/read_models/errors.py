"""Errors of read models: a view that lags, and a record that a projection does not take.

NotNow (infra.core.errors)
 └ ViewBehind   it can be read later
Rejected        a record is to blame, not the file
"""

import sqlite3
from typing import Final

from infra.core.errors import NotNow


class ViewBehind(NotNow):
    """The view gives no answer now: it is catching up or being rebuilt, or its file, log or broker cannot be read.

    The caller may try again later.
    """


class Rejected(Exception):
    """The projection, or a column of its tables, does not take a record: a repeat fails, too. `error` says why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


RECORDS_FAULT: Final = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
"""Errors of SQLite about what is to be written. The file is to blame for all others, such as a full or damaged one."""
