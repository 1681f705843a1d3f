"""An overload is measured on the real system, and an order that got lost in it is no result."""

import sqlite3
from pathlib import Path

import pytest

from bench.flood import Came, Flooded
from bench.overload import _normal_after_s, _nothing_lost, measure_overload
from bench.systems import KEEPER, WentWrong
from infra.local.services import service_names


def test_more_orders_come_than_can_end_and_the_door_closes() -> None:
    found = measure_overload(lines=100, shrink=0.04, crowd=2_000)

    assert found.statuses.keys() <= {"200", "202", "409", "503"}
    assert found.statuses["200"] > 0
    assert found.statuses["503"] > 0
    assert found.offered_per_s == pytest.approx(10 * found.sustained_per_s, rel=0.1)
    assert found.sent_per_s <= found.offered_per_s
    assert 0 < found.refused.p50_ms <= found.refused.p99_ms
    assert found.growth > 0
    assert found.refused_before == 0
    assert found.slower_after > 0
    assert found.memory_mb.keys() == found.memory_before_mb.keys() == {"nats", *service_names(), KEEPER}


def flooded(*statuses: int) -> Flooded:
    return Flooded([Came(0.0, 0.1, status) for status in statuses], 0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("statuses", "why"),
    [
        ((200, 202, 200), "3 orders were taken in, and 2 are in the log"),
        ((200, 503), "1 orders were taken in, and 2 are in the log"),
        ((200, 202, 500), "orders were answered .500."),
    ],
)
def test_an_answer_that_the_log_does_not_bear_out_is_no_result(
    statuses: tuple[int, ...], why: str, tmp_path: Path
) -> None:
    store = sqlite3.connect(tmp_path / "log")
    with store:
        store.execute("CREATE TABLE stored_events (originator_id TEXT)")
        store.executemany("INSERT INTO stored_events VALUES (?)", [("order-1",), ("order-1",), ("order-2",)])
    store.close()

    _nothing_lost(tmp_path / "log", [flooded(200), flooded(202, 503)])
    with pytest.raises(WentWrong, match=why):
        _nothing_lost(tmp_path / "log", [flooded(*statuses)])


def test_latency_is_normal_when_three_seconds_on_end_are() -> None:
    def came(*medians_ms: float) -> list[Came]:
        return [Came(second + 0.5, ms / 1_000, 200) for second, ms in enumerate(medians_ms) for _ in range(3)]

    assert _normal_after_s(came(10, 14, 10), normal_p50_ms=10) == 0
    assert _normal_after_s(came(90, 10, 10, 20, 10, 10, 10, 90), normal_p50_ms=10) == 4
    assert _normal_after_s(came(10, 10), normal_p50_ms=10) is None
