"""Finds what newer code recorded: its facts in a store; by vocabulary, names of facts and fields that logs may have."""

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from contracts.newer import NEXT_STEP, known_fields, words_of
from contracts.wire import FACTS, VOCABULARY, fact_id, why_newer
from infra.local.services import service_names
from infra.sqlite_uri import read_only_uri
from infra.store import vocabulary
from ops import stores


class FoundNewer(NamedTuple):
    """How many facts of newer code were found, and a text on the `first`: where it is, and what of it is unknown.

    `first` empty: none was found.
    """

    facts: int
    first: str

    def __str__(self) -> str:
        return f"{self.facts:,} facts of newer code, the first: {self.first}; {NEXT_STEP}"


def fields(folder: Path) -> list[str]:
    """Return the fields unknown to this code that newer code may have recorded in known facts of this folder's log.

    Empty if the log has no readable vocabulary file. Raises no error.
    """
    return known_fields(vocabulary.unknown(folder, VOCABULARY), FACTS)


def names(env: Mapping[str, str]) -> list[str]:
    """Return the names of facts unknown to this code that newer code may have recorded in any log, sorted.

    A log without a readable vocabulary file adds none. Raises SettingsError.
    """
    folders = [stores.folder(env, service) for service in service_names()]
    return sorted({word for folder in folders for word in vocabulary.unknown(folder, VOCABULARY) if " " not in word})


def in_store(path: Path) -> FoundNewer:
    """Search a store that nobody writes, such as a copy in a backup, for facts of newer code. Raises sqlite3.Error."""
    found, first = 0, ""
    plain = [name for name, fact in FACTS.items() if not words_of(fact)]
    with contextlib.closing(sqlite3.connect(read_only_uri(path, immutable=True), uri=True)) as store:
        for position, stream, version, topic, body in store.execute(
            "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events"
            f" WHERE topic NOT IN ({', '.join('?' * len(plain))}) ORDER BY rowid",
            plain,
        ):
            if (why := why_newer(topic, body)) is not None:
                found += 1
                first = first or f"{fact_id(stream, version)} ({topic}) at position {position}: {why.what}"
    return FoundNewer(found, first)
