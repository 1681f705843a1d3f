"""What tokens and TLS cost: the side that pays is asked with tokens, over TLS, and proves its orders."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench import secured
from bench.phases import PHASES, run
from bench.report import Results, new, ratios
from bench.secured import COMPARED, OPEN, SECURED, SIDES, measure_secured
from bench.systems.secured import OverTls
from bench.wares import KEYS, Request
from tests.bench.test_watched import row

pytestmark = pytest.mark.processes


def test_orders_are_placed_with_tokens_over_tls(tmp_path: Path) -> None:
    before = dict(os.environ)

    found = run(PHASES[0], SECURED, shrink=0.01, systems=SIDES)

    assert found.ends.keys() == {"confirmed"}
    assert dict(os.environ) == before
    with OverTls(tmp_path) as system:
        assert all(url.startswith("https://") for url in system.urls.values())
        assert b"Authorization: Bearer " in Request("order", "/orders", user="u1").encode()
        assert b"X-User-Id" not in Request("order", "/orders", user="u1").encode()
    assert KEYS not in os.environ


def test_sides_take_turns_and_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.watched.run", lambda phase, side, **_: replace(row(side, 1.0), phase=phase.name))
    rows = list(measure_secured(2))
    assert [one.system for one in rows] == [*SIDES, *reversed(SIDES)]
    assert {one.phase for one in rows} == {"secured"}

    made: Results = new(1, quick=True)
    made.secured = [row(OPEN, 1_000.0), row(secured.TOKENS, 990.0), row(SECURED, 890.0)]
    bars = {ratio.says: ratio.met for ratio in ratios(made) if ratio.says.startswith("secured")}
    assert bars == {
        f"secured: {SECURED}: orders/s, × {OPEN}": False,
        f"secured: {SECURED}: CPU an order, × {OPEN}": True,
    }
    assert {of for of, _ in COMPARED} == {secured.TOKENS, SECURED}
