"""Each system goes through small phases, and what it did is verified; a system that is wrong gives no row."""

import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench import load
from bench.load import Job, LoadFailed
from bench.phases import PHASES, WARM_UP, run, through
from bench.systems import SYSTEMS, OneProcess, Saga, System, WentWrong
from bench.wares import Wares

BY_NAME = {phase.name: phase for phase in PHASES}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_goes_through_a_phase_with_refusals(system: str) -> None:
    row = run(replace(BY_NAME["mix"], orders=200), system)

    assert row.ends == {
        "confirmed": 160,
        "coupon-unknown": 20,
        "points-insufficient": 10,
        "product-out-of-stock": 10,
    }
    assert (row.phase, row.system, row.orders) == ("mix", system, 200)
    assert row.cpu_s_per_1000 > 0
    assert row.cpu_s_per_1000 == pytest.approx(sum(row.cpu_of.values()))
    assert row.memory_mb > 10
    assert 0 < row.p50_ms <= row.p99_ms


def test_an_open_loop_lasts_as_long_as_it_is_told() -> None:
    row = run(replace(BY_NAME["half"], seconds=1.0), "one-process", rate=100.0)

    assert row.orders == 100
    assert row.ends == {"confirmed": 100}
    assert row.per_s < 110, "it cannot be faster than the rate"


def placed(system: System, wares: Wares) -> None:
    load.run(Job("open", system.urls, wares))
    load.run(Job("place", system.urls, wares, last=wares.orders))


def test_a_lost_order_is_no_row(tmp_path: Path) -> None:
    wares = Wares(50)
    with OneProcess(tmp_path) as system:
        placed(system, wares)
        load.run(Job("check", system.urls, wares))
        more = Wares(51)
        load.run(Job("open", system.urls, more))

        with pytest.raises(LoadFailed, match=r"/coupons/c50: order_id is not True.*and 1 more|/products/"):
            load.run(Job("check", system.urls, more))


def test_an_order_that_ends_otherwise_is_no_row(tmp_path: Path) -> None:
    wares = Wares(20)
    with OneProcess(tmp_path) as system:
        load.run(Job("open", system.urls, wares))
        with pytest.raises(LoadFailed, match="order 20 ended as coupon-unknown, not as confirmed"):
            load.run(Job("place", system.urls, Wares(21), first=19, last=21))


def test_a_load_generator_that_leaves_no_result_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.CompletedProcess[bytes]([], 0, stdout=b"", stderr=b"its last words\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)

    with pytest.raises(LoadFailed, match="without its result: its last words"):
        load.run(Job("open", {}, Wares(1)))


def test_what_the_audit_finds_is_no_row(tmp_path: Path) -> None:
    with Saga(tmp_path) as system:
        placed(system, Wares(20))
        system.prove()
        (tmp_path / "coupon" / "events.sqlite").rename(tmp_path / "elsewhere")
        with pytest.raises(WentWrong, match="`orders audit` ended with"):
            system.prove()


def test_a_system_with_a_history_goes_through_the_next_phase(tmp_path: Path) -> None:
    phase = replace(BY_NAME["c64"], orders=50)
    with OneProcess(tmp_path) as system:
        for prefix in ("one-", "two-"):
            row = through(system, phase, "one-process", Wares(50 + WARM_UP, prefix=prefix), None)
            assert row.ends == {"confirmed": 50}
