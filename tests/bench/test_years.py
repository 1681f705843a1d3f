"""The years in small: each tenth has its own figures, and what came of the orders is verified."""

import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from bench import years
from bench.__main__ import main
from bench.load import Done
from bench.measure import Usage
from bench.phases import Row
from bench.systems import KEEPER, Saga, WentWrong
from bench.years import SHARES, Rolled, Years, measure_long, measure_rolled, measure_steady, measure_years, tenths
from infra.local.services import service_names

PROCESSES = {"nats", *service_names(), KEEPER}


def test_a_tenth_has_the_answers_that_came_in_it_and_what_was_used_meanwhile() -> None:
    """Ten orders a second in the first half of ten seconds, twice as many in the other, where each also costs twice."""
    at = [(number + 1) / 10 for number in range(50)] + [5 + (number + 1) / 20 for number in range(50)]
    after = [0.010] * 90 + [0.020] * 9 + [0.500]
    random.Random(1).shuffle(after[:90])
    looks = [
        Usage(1_000 + second, {"nats": 1.0 * second, "order": 3.0}, {"nats": 50.0 + second}) for second in range(9)
    ]

    found = tenths(Done(7.5, began=1_000.0, latencies=after, at=at), looks)

    assert [tenth.orders for tenth in found] == [10] * 10
    assert [round(tenth.per_s) for tenth in found] == [10] * 5 + [20] * 5
    assert [round(tenth.cpu_ms["nats"]) for tenth in found] == [100] * 5 + [50] * 5
    assert {tenth.cpu_ms["order"] for tenth in found} == {0.0}
    assert [tenth.memory_mb["nats"] for tenth in found] == [51, 52, 53, 54, 55, 56, 56, 57, 57, 58]
    assert [round(tenth.p50_ms, 3) for tenth in found] == [10.0] * 9 + [20.0]
    assert (found[0].max_ms, found[-1].max_ms) == (10.0, 500.0)
    assert found[-1].p50_ms < found[-1].p99_ms < found[-1].p999_ms < 500.0


def test_the_last_tenth_is_compared_with_the_first() -> None:
    looks = [Usage(float(second), {"nats": 1.0, "order": 2.0 * second}, {}) for second in range(12)]
    long = years.Long(1, tenths(Done(10.0, 0.0, [0.01] * 100, [(n + 1) / 10 for n in range(100)]), looks), 0)
    slow = replace(long.tenths[4], p99_ms=40.0)
    last = replace(long.tenths[-1], per_s=8.0, p99_ms=15.0, cpu_ms={"nats": 1.0, "order": 300.0})
    long.tenths[4], long.tenths[-1] = slow, last

    assert long.ratio(lambda tenth: tenth.per_s) == pytest.approx(0.8)
    assert long.worst_p99 == pytest.approx(4.0)
    assert long.service_cpu == pytest.approx(1.5)


@pytest.mark.parametrize("option", [("--part", "one"), ("--orders", "2000")])
def test_what_only_years_takes_goes_with_it(option: tuple[str, str], tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [*option, "--out", str(tmp_path / "results")])

    assert done.exit_code == 2
    assert "go with --only years" in done.output
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("users", [1_000, 1])
def test_a_long_run_has_ten_tenths(users: int) -> None:
    long = measure_long(300, users)

    assert long.users == users
    assert [tenth.orders for tenth in long.tenths] == [30] * 10
    assert long.refused == 0
    for tenth in long.tenths:
        assert tenth.cpu_ms.keys() == tenth.memory_mb.keys() == PROCESSES
        assert 0 < tenth.p50_ms <= tenth.p99_ms <= tenth.p999_ms <= tenth.max_ms
        assert tenth.per_s > 0
        assert all(megabytes > 5 for megabytes in tenth.memory_mb.values())


def test_rates_are_shares_of_the_monoliths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(years, "C64", replace(years.C64, orders=300))
    monkeypatch.setattr(years, "RATE_S", 1.0)
    monkeypatch.setattr(years, "SHARES", SHARES[:1])
    found, told = Years(), list[Row]()

    measure_years(found, ["rates"], 1, told.append)

    assert found.rates == told
    base, *rates = told
    assert (base.phase, base.system) == ("c64", "monolith")
    assert [(row.phase, row.system) for row in rates] == [("2 %", "saga"), ("2 %", "monolith")]
    assert [row.orders for row in rates] == [int(0.02 * base.per_s)] * 2
    assert all(row.ends == {"confirmed": row.orders} for row in rates)


def test_a_steady_rate_finds_a_stream_of_so_many_subjects() -> None:
    steady = measure_steady(2_000, seconds=2.0, rate=100.0)

    assert steady.subjects >= 2_000
    assert (steady.orders, steady.refused) == (200, 0)
    assert 0 < steady.p50_ms <= steady.p99_ms <= steady.p999_ms <= steady.max_ms
    assert steady.memory_mb.keys() == {"nats", *service_names()}, "nobody rolls the stream over"


def test_the_stream_is_archived_and_rolls_over_in_each_block() -> None:
    rolled = measure_rolled(200, rolls=2)

    assert [block.orders for block in rolled.blocks] == [200] * 2
    assert [block.archived for block in rolled.blocks] == [0, 1]
    assert rolled.refused == 0
    assert all(0 < block.p99_ms <= block.max_ms and block.broker_mb > 5 for block in rolled.blocks)


def test_a_generation_that_cannot_be_archived_is_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(years, "ARCHIVE_S", 0.0)
    with Saga(tmp_path) as saga, pytest.raises(WentWrong, match="EVENTS was not archived"):
        years.archive_and_roll(saga, sealed=1)


def test_the_brokers_memory_is_compared_with_that_after_two_blocks() -> None:
    block = years.Block(10, 100.0, 5.0, 9.0, refused=1, archived=0, broker_mb=90.0)
    second, last = replace(block, broker_mb=100.0), replace(block, broker_mb=130.0)

    assert Rolled([block, second, block, last]).memory == pytest.approx(1.3)
    assert Rolled([block, second, block, last]).refused == 4
