"""However narrow the output is, a table cuts no id and no fact name; into a pipe, each row is one line."""

import io
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from rich.table import Table

from ops import ledger, trace
from ops.find import command as find
from ops.find.criteria import FoundOrder
from ops.output import print_out

ORDER = "2e86ac2065f70ff4b21b2634a80468d3"
FACT = "product.reserve.failed"
CAUSE = f"reservation-{ORDER}@12"
DETAIL = " ".join(["words"] * 12)


def traced() -> Table:
    line = trace.TraceLine(17, 1_234.5, "product", FACT, f"{ORDER}@2", CAUSE, again=False, detail=DETAIL)
    return trace.table([line])


def listed() -> Table:
    moved = ledger.Movement(17, datetime.now(UTC), FACT, ORDER, 1, 1_000_000, None, DETAIL)
    return ledger.table("user", [moved])


def found() -> Table:
    now = datetime.now(UTC)
    return find.table([FoundOrder(17, ORDER, FACT, "CANCELED", DETAIL, now, now, [], 0, None, None)], "ended")


def shown(table: Table, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    print_out(table)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(("table", "id_"), [(traced, CAUSE), (listed, ORDER), (found, ORDER)])
def test_a_row_is_one_line_in_a_pipe(table: Callable[[], Table], id_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)

    _, row = shown(table(), monkeypatch)

    assert all(part in row for part in (id_, FACT, DETAIL))


@pytest.mark.parametrize("columns", [1, 40, 80, 120])
@pytest.mark.parametrize(("table", "id_"), [(traced, CAUSE), (listed, ORDER), (found, ORDER)])
def test_no_id_and_no_name_is_cut(
    columns: int, table: Callable[[], Table], id_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))

    _, row, *rest = shown(table(), monkeypatch)

    assert all(part in row for part in (id_, FACT, "words"))
    assert " ".join([row, *rest]).count("words") == DETAIL.count("words")
