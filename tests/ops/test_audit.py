"""The audit of a day: beside a running system, from checkpoint to checkpoint, and against rewriting of the past."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from contracts.wire import encode
from infra.local.services import service_names
from ops.audit import checkpoint, cut
from ops.audit.checkpoint import AuditCheckpoint
from ops.audit.run import Options, audit
from ops.progress import ProgressLines
from ops.reading import Stream
from tests.audit.crowd import ORDERS
from tests.forked import run
from tests.ops import damage
from tests.ops.asking import orders, told
from tests.ops.conftest import Day
from tests.saga.rush import Rush
from tests.shop import Shop, background, log_of

ALONE = ("--answers", "0")
"""Logs and stream, without the services."""


async def audited(shop: Shop, *arguments: str) -> tuple[int, Any]:
    """Exit code and report."""
    done = await orders(shop, "audit", "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_checkpoint_of_other_code_is_not_current() -> None:
    now = cut.Cut(datetime.now(UTC), {}, {}, 0, {})
    saved = AuditCheckpoint(checkpoint.FORMAT, now, {}, None, checkpoint.code())

    assert saved.is_current
    assert not replace(saved, code="other").is_current
    assert not replace(saved, format=2).is_current


def test_only_an_audit_reads_the_sources() -> None:
    """Every command of `orders` loads the audit's modules."""
    read = "from infra.code_hash import _read; import ops.orders; print(_read.cache_info().misses)"
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)

    assert done.stdout == "0\n"


async def test_a_day_is_as_it_must_be(day: Day, running: Shop) -> None:
    report = await told(running, "audit", "--at-rest")

    facts = {name: len(log_of(running.folder, name)) for name in service_names()}
    assert {name: log["records"] for name, log in report["logs"].items()} == facts
    assert sum(report["facts"].values()) == sum(facts.values())
    assert report["stream"]["messages"] >= sum(facts.values())
    assert report["orders"].keys() >= {"CONFIRMED", "customer-canceled", "coupon-expired", "product-out-of-stock"}
    assert sum(report["orders"].values()) == report["subjects"]["orders"] == len(day.answers)
    assert report["answers"]["compared"] > 400
    assert report["answers"]["moved_on"] == 0
    assert (report["verdict"], report["findings"], report["since"]) == ("good", [], None)
    assert json.loads((running.folder / "audit" / "report.json").read_text()) == report
    read = await orders(running, "audit")
    assert read.returncode == 0
    assert "good: nothing was found" in read.stdout
    assert "is unchanged since it was audited" in read.stdout


async def test_audits_of_a_system_at_work_find_nothing_and_go_on_from_each_other(shop: Shop) -> None:
    rush = Rush(shop, ORDERS)
    await rush.prepare()
    reports = []
    async with background(rush.place()):
        while len(rush.placed) < ORDERS:
            code, report = await audited(shop)
            assert (code, report["findings"]) == (0, [])
            reports.append(report)
    await shop.until_quiet()

    last = await told(shop, "audit", "--at-rest")

    assert len(reports) > 1
    assert [later["since"] for later in [*reports[1:], last]] == [earlier["cut"] for earlier in reports]
    everything = await told(shop, "audit", "--at-rest", "--full")
    assert everything["since"] is None
    assert last["stream"]["messages"] < everything["stream"]["messages"]
    assert {name: log["sha256"] for name, log in last["logs"].items()} == {
        name: log["sha256"] for name, log in everything["logs"].items()
    }
    assert (last["orders"], last["subjects"]) == (everything["orders"], everything["subjects"])


async def test_a_service_that_answers_something_else_than_its_log_is_found(running: Shop) -> None:
    charged = damage.row(running, "point.deposited")
    customer = charged.fact.user_id
    balance = await running.balance(customer)  # the service has it in memory now
    damage.set_body(running, "point", charged.fact_id, encode(replace(charged.fact, points=charged.fact.points + 1)))
    await running.charge(customer, 1, key="late")  # so that it was busy last
    await running.until_quiet()

    code, report = await audited(running)

    assert code == 1
    said = [what for invariant, where, what in report["findings"] if (invariant, where) == (9, f"account {customer}")]
    assert said == [f"is answered as {balance + 1}; its facts make it {balance + 2}"]


async def rewritten(shop: Shop) -> str:
    """The time of a fact is changed in both copies alike: nothing adds up to anything else by it."""
    issued = damage.row(shop, "coupon.issued")
    body = encode(replace(issued.fact, at=issued.fact.at.replace(year=2020)))
    damage.set_body(shop, "coupon", issued.fact_id, body)
    await damage.republish(shop, issued.fact_id, body)
    return f"coupon log, position {issued.position}, {issued.fact_id}"


async def removed(shop: Shop) -> str:
    """A coupon that nobody used is taken out of both copies."""
    streams = Counter(row.stream for row in damage.rows(shop, "coupon"))
    unused = damage.row(shop, "coupon.issued", lambda row: streams[row.stream] == 1)
    damage.unlog(shop, "coupon", unused.fact_id)
    await damage.unpublish(shop, unused.fact_id)
    return "coupon log, up to position"


async def edited(shop: Shop) -> str:
    """A fact of the log alone is changed."""
    charged = damage.row(shop, "point.deposited")
    damage.set_body(shop, "point", charged.fact_id, encode(replace(charged.fact, points=charged.fact.points + 1)))
    return f"point log, position {charged.position}, {charged.fact_id}"


@pytest.mark.parametrize("rewriting", [rewritten, removed, edited])
async def test_a_past_that_was_rewritten_is_found_by_the_next_audit(rewriting: damage.Damage, left: Shop) -> None:
    await left.start_nats()
    assert (await audited(left, *ALONE))[0] == 0
    place = await rewriting(left)

    code, report = await audited(left, *ALONE)

    assert code == 1
    assert [where for invariant, where, _ in report["findings"] if invariant == 0 and where.startswith(place)]


async def test_a_damaged_checkpoint_is_told_and_replaced_by_an_audit_of_everything(left: Shop) -> None:
    await left.start_nats()
    assert (await audited(left, *ALONE))[0] == 0
    (left.folder / "audit" / "checkpoint.sqlite").write_bytes(b"garbage" * 1_000)

    done = await orders(left, "audit", "--json", *ALONE)
    assert (done.returncode, json.loads(done.stdout)["since"]) == (0, None), done.stderr
    assert re.search(r"checkpoint\.sqlite is damaged \(.*\): it is not used", " ".join(done.stderr.split()))

    code, report = await audited(left, *ALONE)
    assert code == 0
    assert report["since"] is not None


@pytest.mark.parametrize("rewriting", [rewritten, removed])
async def test_a_report_kept_elsewhere_is_enough_to_find_it(
    rewriting: damage.Damage, left: Shop, tmp_path: Path
) -> None:
    await left.start_nats()
    assert (await audited(left, *ALONE))[0] == 0
    shutil.move(left.folder / "audit" / "report.json", tmp_path / "kept.json")
    shutil.rmtree(left.folder / "audit")
    await rewriting(left)

    unknowing, _ = await audited(left, *ALONE, "--grace", "1e6")
    code, report = await audited(left, *ALONE, "--grace", "1e6", "--against", str(tmp_path / "kept.json"))

    assert (unknowing, code) == (0, 1)
    assert {where.partition(" ")[0] for invariant, where, _ in report["findings"] if invariant == 0} == {"coupon"}


async def test_a_report_that_shares_nothing_with_the_log_is_a_finding(left: Shop, tmp_path: Path) -> None:
    await left.start_nats()
    assert (await audited(left, *ALONE))[0] == 0
    kept = json.loads((left.folder / "audit" / "report.json").read_text())
    kept["logs"]["point"] |= {"sha256": "00", "links": {}}
    (tmp_path / "kept.json").write_text(json.dumps(kept))

    code, report = await audited(left, *ALONE, "--against", str(tmp_path / "kept.json"))

    assert code == 1
    ((_, where, said),) = report["findings"]
    assert where.startswith("point log, up to position ")
    assert said.endswith("the same up to 0")


async def test_what_is_found_is_found_again_until_it_is_mended(left: Shop) -> None:
    await left.start_nats()
    assert (await audited(left, *ALONE))[0] == 0
    damage.append(left, replace(damage.row(left, "point.deposited").fact, user_id="eve"))

    first, again = await audited(left, *ALONE), await audited(left, *ALONE)
    damage.unlog(left, "point", "account-eve@1")
    mended = await audited(left, *ALONE)

    assert [code for code, _ in (first, again, mended)] == [1, 1, 0]
    assert first[1]["findings"] == again[1]["findings"]
    assert mended[1]["since"] is not None


async def test_a_stream_that_was_written_again_is_audited_from_its_beginning(left: Shop) -> None:
    await left.start_nats()
    assert (await audited(left, *ALONE))[0] == 0
    await damage.rewrite_stream(left, lambda events: events)

    code, report = await audited(left, *ALONE)

    assert (code, report["since"]) == (0, None)


async def test_exit_codes_tell_scripts_what_is_wrong(left: Shop, tmp_path: Path) -> None:
    away = await orders(left, "audit")
    await left.start_nats()
    nowhere = await orders(left, "audit", DATA_DIR=str(tmp_path / "nowhere"))
    silent = await orders(left, "audit")
    no_report = await orders(left, "audit", "--against", str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{}")
    bad_report = await orders(left, "audit", "--against", str(tmp_path / "bad.json"))

    assert [done.returncode for done in (away, nowhere, silent, no_report, bad_report)] == [3, 3, 3, 2, 2]
    assert "just up" in away.stderr
    assert "DATA_DIR" in nowhere.stderr
    assert "--answers 0" in silent.stderr
    assert "report of an earlier audit" in bad_report.stderr
    assert not (tmp_path / "nowhere").exists()


async def test_a_cut_that_lacks_causes_is_moved_to_them(left: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the other logs had been looked at long before order_svc's."""
    await left.start_nats()
    whole = cut.take

    async def early(stream: Stream, logs: cut.ServiceLogs, *, backup: bool) -> cut.Cut:
        found = await whole(stream, logs, backup=backup)
        found.logs |= {"product": 0, "point": 0, "coupon": 0}
        found.sequence, found.generations, found.published = 0, {}, {}
        return found

    monkeypatch.setattr(cut, "take", early)
    options = Options(left.folder / "audit", timedelta(days=1), False, False, None, 0)
    made = await audit(left.env, options, ProgressLines())

    assert made.findings == []
    assert all(made.logs[name].records == made.cut.logs[name] > 0 for name in service_names())


async def test_a_backup_may_end_before_the_logs_but_has_no_hole(left: Shop) -> None:
    await left.start_nats()
    events = await left.events()
    await damage.rewrite_stream(left, lambda events: events[: len(events) // 2])
    assert (await audited(left, *ALONE))[0] == 1

    code, report = await audited(left, *ALONE, "--backup")
    assert (code, report["stream"]["messages"]) == (0, len(events) // 2)
    assert (left.folder / "audit-backup" / "report.json").exists()

    lost = (await left.events())[1_000].fact_id
    await damage.unpublish(left, lost)
    code, report = await audited(left, *ALONE, "--backup")
    assert code == 1
    assert [where for invariant, where, _ in report["findings"] if invariant == 8 and where.endswith(lost)]


@pytest.mark.parametrize("grace", ["nan", "inf", "-1", "1e300"])
async def test_a_grace_that_no_time_has_is_wrong_usage(grace: str, tmp_path: Path) -> None:
    done = await run("ops.orders", "audit", "--grace", grace, env={**os.environ, "DATA_DIR": str(tmp_path)})

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
