"""What is exported: a service says which facts of its log become rows, and what a row is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from msgspec import Struct

from infra.store.records import Notification


class Row(Struct, frozen=True, kw_only=True, gc=False, tag_field="schema"):
    """What every row has. A dataset's own row type adds its fields and the tag `<dataset>/<version>`.

    `fact_id` is the key: one fact, one row. `position` is its place in the log, and the rows' order. `at`: UTC.
    """

    fact_id: str
    position: int
    kind: str
    at: datetime

    @property
    def day(self) -> date:
        """The UTC day of the fact: the same for whoever asks, wherever the process runs."""
        return self.at.astimezone(UTC).date()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A service's rows. `row` makes one of a record of these topics, and raises msgspec.DecodeError if it cannot."""

    name: str
    row_type: type[Row]
    row: Callable[[Notification], Any]
    topics: tuple[str, ...]
    sums: tuple[str, ...]
    """The fields that the reconciliation adds up; null counts as nothing."""

    @property
    def schema(self) -> str:
        """`<dataset>/<version>`."""
        return str(self.row_type.__struct_config__.tag)


class ExportPosition(NamedTuple):
    """How far a sink has got: it has every row up to this position of the log. An empty id: not known, or no fact."""

    position: int
    fact_id: str


START = ExportPosition(0, "")


class Unexportable(Exception):
    """A record cannot be made a row. Nothing is skipped: the export stands still until this is solved."""
