"""A service describes its dataset: which facts of its log become rows, and which fields a row has."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from msgspec import Struct

from infra.store.records import Notification


class Row(Struct, frozen=True, kw_only=True, gc=False, tag_field="schema"):
    """The fields of every row. A dataset's own row type adds its fields and the tag `<dataset>/<version>`.

    `fact_id` is the key: one fact, one row. `position` is the fact's position in the log; rows are ordered by it.
    `at`: UTC.
    """

    fact_id: str
    position: int
    kind: str
    at: datetime

    @property
    def day(self) -> date:
        """The UTC day of the fact. It does not depend on the time zone of the process or of the reader."""
        return self.at.astimezone(UTC).date()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A service's rows. `row` makes one of a record of these topics. It raises msgspec.DecodeError or ValueError."""

    name: str
    row_type: type[Row]
    row: Callable[[Notification], Any]
    topics: tuple[str, ...]
    sums: tuple[str, ...]
    """The fields that the reconciliation adds up; null counts as 0."""

    @property
    def schema(self) -> str:
        """`<dataset>/<version>`."""
        return str(self.row_type.__struct_config__.tag)


class ExportPosition(NamedTuple):
    """How far a sink has got: it has every row up to this position of the log.

    `fact_id` is the fact at that position; empty if it is not known or if there is no fact.
    """

    position: int
    fact_id: str


START = ExportPosition(0, "")
