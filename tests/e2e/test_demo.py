"""`python -m ops.demo`: the flow as a newcomer sees it, and its verdict."""

import os
import re
import sys
from pathlib import Path

from tests.e2e.processes import left_in, run, running_in, started

STORY = """
1. Everything is there
order.created.pending
product.stock.held
product.stock.held
product.reserved
point.debited
point.used
coupon.held
coupon.used
order.confirmed
=> 200 CONFIRMED
2. Product refuses
order.created.pending
product.reserve.failed
order.canceled
=> 409 CANCELED
3. Point refuses
order.created.pending
product.stock.held
product.reserved
point.use.failed
↩ product.released
↩ product.stock.returned
order.canceled
=> 409 CANCELED
4. Coupon refuses
order.created.pending
product.stock.held
product.reserved
point.debited
point.used
coupon.use.failed
↩ point.credited
↩ point.refunded
↩ product.released
↩ product.stock.returned
order.canceled
=> 409 CANCELED
"""
"""What follows a refusal may happen in any order: there it is sorted."""

BALANCES = """
Balances at first after 1 after 2 after 3 after 4
mugs in stock 10 8 8 8 8
lamps in stock 1 0 0 0 0
points of u1 5,000 4,500 4,500 4,500 4,500
coupon c1 free order 1 order 1 order 1 order 1
coupon c2 free free free free free
"""

BROKEN = """
import dataclasses
from ops.demo import command
first = command.CASES[0]
command.CASES = (dataclasses.replace(first, facts=[*first.facts[:-1], ("order.forgotten", None)], changes={}),)
command.main()
"""

DAMAGED = """
import contextlib, sqlite3
from ops.demo import command, crash
crash.PATIENCE_S = 1.0
crash.BALANCES = {**crash.BALANCES, "mugs in stock": (1_000, 1_000)}
audited = crash.CrashDemo._audit
async def damaged(demo):
    path = demo._system.folder / "coupon" / "events.sqlite"
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as log:
        log.execute("DELETE FROM stored_events WHERE rowid = 1")
        log.commit()
    await audited(demo)
crash.CrashDemo._audit = damaged
command.main()
"""
"""The crash demo, with a wrong expectation, and with a record less in the log of a service."""


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder)}


def told(output: str) -> list[str]:
    """The lines of the story without times, services and details; what follows a refusal sorted."""
    found = re.findall(
        r"^\d\. [^:]+|↩ [a-z.]+|(?<= {2})(?:order|product|point|coupon)\.[a-z.]+|=> \d+ \w+", output, re.MULTILINE
    )
    lines: list[str] = []
    aftermath: list[str] = []
    for line in found:
        if line.startswith("=>"):
            lines += [*sorted(aftermath, key=lambda name: (name == "order.canceled", name)), line]
            aftermath = []
        elif aftermath or (lines and lines[-1].endswith(".failed")):
            aftermath.append(line)
        else:
            lines.append(line)
    return lines


async def test_it_tells_the_flow_and_its_refusals_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = await run("ops.demo", env=environment(tmp_path))

    assert (demo.returncode, demo.stderr) == (0, "")
    assert told(demo.stdout) == STORY.strip().splitlines()
    table = demo.stdout[demo.stdout.index("Balances") : demo.stdout.index("Every answer")]
    assert [" ".join(row.split()) for row in table.strip().splitlines()] == BALANCES.strip().splitlines()
    assert "Every answer, fact, cause and balance is exactly as expected" in demo.stdout
    assert "\033" not in demo.stdout
    assert left_in(tmp_path) == []
    assert running_in(tmp_path) == {}


async def test_it_fails_when_anything_is_not_as_it_must_be(tmp_path: Path) -> None:
    (tmp_path / "broken_demo.py").write_text(BROKEN)
    env = environment(tmp_path) | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    demo = await run("broken_demo", env=env)

    assert demo.returncode == 1
    assert "Some results are not as expected" in demo.stderr
    assert "order 1: balances afterwards" in demo.stderr
    assert "missing: is [('order.forgotten', None)]" in demo.stderr
    assert "are not expected: is [('order.confirmed', 'coupon.used')]" in demo.stderr


async def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    demo = await run("ops.demo", env=environment(tmp_path) | {"GOMAXPROCS": "abc"})

    assert demo.returncode == 1
    assert demo.stderr.startswith("The demo could not be run: GOMAXPROCS='abc' cannot be used")


async def test_a_wrong_balance_and_a_finding_of_the_audit_fail_it(tmp_path: Path) -> None:
    (tmp_path / "damaged_demo.py").write_text(DAMAGED)
    env = environment(tmp_path) | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    demo = await run("damaged_demo", "--crash", env=env)

    assert demo.returncode == 1
    assert "mugs in stock: is 759, must be 1000" in demo.stderr
    assert "audit: " in demo.stderr
    assert "=> good" not in demo.stdout


async def test_sigterm_ends_it_with_all_it_has_started(tmp_path: Path) -> None:
    with started("ops.demo", env=environment(tmp_path), folder=tmp_path) as demo:
        await demo.prints("Ready after")
        demo.process.terminate()
        assert await demo.ended() == 130
        assert "Stopped before its end" in demo.output
        assert running_in(tmp_path) == {}
        assert left_in(tmp_path) == [demo.file]


async def test_all_is_right_after_the_kills_and_nothing_is_left(tmp_path: Path) -> None:
    demo = await run("ops.demo", "--crash", env=environment(tmp_path))

    assert (demo.returncode, demo.stderr) == (0, "")
    happened = re.findall(r"^ +\d+\.\d s  (.*?)(?:: [\d,]+ messages|; [\d,]+ requests .*)?$", demo.stdout, re.MULTILINE)
    assert happened == [
        "200 orders are answered: kill -9 order_svc",
        "order_svc is back; clients send again what was not answered",
        "400 orders are answered: kill -9 nats-server, and its store is deleted",
        "nats-server is back, empty; the services write everything again",
        "all 600 orders are answered",
        "each order was sent once more: 600 times the same answer",
    ]
    balances = re.findall(r"^(\w[\w ]+?) +[\d,]+ +([\d,]+) +([\d,]+)$", demo.stdout, re.MULTILINE)
    assert len(balances) == 6
    assert [row for row in balances if row[1] != row[2]] == []
    assert "=> good: nothing is lost, doubled or forged" in demo.stdout
    assert left_in(tmp_path) == []
    assert running_in(tmp_path) == {}
