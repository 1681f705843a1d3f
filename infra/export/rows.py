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
    `kind`: the kind of row, such as `canceled`; totals are per day and kind. `at`: the instant of the fact, in UTC.
    """

    fact_id: str
    position: int
    kind: str
    at: datetime

    @property
    def day(self) -> date:
        """Return the UTC day of `at`. The day does not depend on the time zone of the process or of the reader."""
        return self.at.astimezone(UTC).date()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Describes the rows that a service exports: the dataset's `name`, the rows' type, the facts they are made of.

    Every record of one of `topics` becomes one row. `row` makes the row of a record; it raises msgspec.DecodeError or
    ValueError if it cannot.
    """

    name: str
    row_type: type[Row]
    row: Callable[[Notification], Any]
    topics: tuple[str, ...]
    sums: tuple[str, ...]
    """The names of the row's fields that the reconciliation adds up, whole numbers; null counts as 0."""

    @property
    def schema(self) -> str:
        """Return the name and version of the row's format, `<dataset>/<version>`, such as `orders/1`."""
        return str(self.row_type.__struct_config__.tag)


class ExportPosition(NamedTuple):
    """How far a sink has got: the sink has every row up to and including this position of the log.

    `fact_id` is the id of the fact at that position; empty if the id is not known or there is no fact. Position 0 is
    before every row.
    """

    position: int
    fact_id: str


START = ExportPosition(0, "")
