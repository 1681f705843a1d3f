"""The audit fails for each kind of damage to the history of a day, and names where it is."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from contracts import PointDeposited
from contracts.wire import encode
from infra.timestamps import now
from tests.ops import damage
from tests.ops.asking import orders, told
from tests.shop import Shop, attempts, open_shop


async def audited(shop: Shop, *arguments: str) -> tuple[int, Any]:
    """Exit code and report, of a system without services."""
    done = await orders(shop, "audit", "--answers", "0", "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


async def deleted_event(shop: Shop) -> str:
    used = damage.row(shop, "point.used")
    damage.unlog(shop, "point", used.fact_id)
    return used.fact_id


async def edited_amount(shop: Shop) -> str:
    charged = damage.row(shop, "point.deposited")
    body = encode(replace(charged.fact, points=charged.fact.points + 1))
    damage.set_body(shop, "point", charged.fact_id, body)
    return charged.fact_id


async def edited_amount_in_both(shop: Shop) -> str:
    confirmed = damage.row(shop, "order.confirmed")
    body = encode(replace(confirmed.fact, amount_due=confirmed.fact.amount_due + 1))
    damage.set_body(shop, "order", confirmed.fact_id, body)
    await damage.republish(shop, confirmed.fact_id, body)
    return confirmed.fact_id


async def two_versions_swapped(shop: Shop) -> str:
    debited = {
        (found.stream, found.version): found for found in damage.rows(shop, "point") if found.topic == "point.debited"
    }
    one, other = next(
        (found, debited[stream, version + 1])
        for (stream, version), found in debited.items()
        if (stream, version + 1) in debited
    )
    damage.set_body(shop, "point", one.fact_id, other.body)
    damage.set_body(shop, "point", other.fact_id, one.body)
    return one.fact_id


async def forged_event(shop: Shop) -> str:
    """Somebody who can write to both copies gives back the points of an order that stands."""
    order = _standing(shop, lambda found: found.fact.points > 0).fact
    refunded = damage.row(shop, "point.refunded").fact
    forged = damage.append(shop, replace(refunded, order_id=order.order_id, order=order.order, points=order.points))
    await damage.publish(shop, [damage.as_event(forged)])
    return f"order {order.order_id}"


def _standing(shop: Shop, fits: Callable[[damage.Row], bool] = lambda _: True) -> damage.Row:
    """A confirmation that was not canceled later."""
    canceled = {found.stream for found in damage.rows(shop, "order") if found.topic == "order.canceled"}
    return damage.row(shop, "order.confirmed", lambda found: found.stream not in canceled and fits(found))


async def event_only_in_the_stream(shop: Shop) -> str:
    charged = damage.row(shop, "point.deposited").fact
    forged = PointDeposited(at=charged.at, user_id="eve", points=1, idempotency_key="forged")
    event = damage.as_event(damage.Row(1, forged.stream, 1, "point.deposited", encode(forged)))
    await damage.publish(shop, [event])
    return "account-eve@1"


async def event_only_in_the_store(shop: Shop) -> str:
    charged = damage.row(shop, "point.deposited").fact
    forged = PointDeposited(at=charged.at, user_id="eve", points=1, idempotency_key="forged")
    return damage.append(shop, forged).fact_id


async def double_refund(shop: Shop) -> str:
    refunded = damage.row(shop, "point.refunded", lambda found: found.fact.points > 0)
    again = damage.append(shop, refunded.fact)
    await damage.publish(shop, [damage.as_event(again)])
    return again.fact_id


async def lost_release(shop: Shop) -> str:
    released = damage.row(shop, "product.released")
    returned = [
        found
        for found in damage.rows(shop, "product")
        if found.topic == "product.stock.returned" and found.fact.order_id == released.fact.order_id
    ]
    for lost in (released, *returned):
        damage.unlog(shop, "product", lost.fact_id)
    await damage.unpublish(shop, *(lost.fact_id for lost in (released, *returned)))
    return f"order {released.fact.order_id}"


async def order_that_never_ended(shop: Shop) -> str:
    confirmed = _standing(shop)
    damage.unlog(shop, "order", confirmed.fact_id)
    await damage.unpublish(shop, confirmed.fact_id)
    return f"order {confirmed.fact.order_id}"


DAMAGES: dict[damage.Damage, tuple[int, str]] = {
    deleted_event: (8, "is in no service's log"),
    edited_amount: (8, "other bytes"),
    edited_amount_in_both: (5, "amount_due"),
    two_versions_swapped: (8, "other bytes"),
    forged_event: (5, "point step is undone"),
    event_only_in_the_stream: (8, "is in no service's log"),
    event_only_in_the_store: (8, "is missing from the stream"),
    double_refund: (5, "undone already"),
    lost_release: (5, "its product step was never undone"),
    order_that_never_ended: (4, "never ended"),
}
"""Which invariant it breaks, and what is said of it."""


@pytest.mark.parametrize("damaging", DAMAGES, ids=lambda damaging: damaging.__name__.replace("_", " "))
async def test_damage_is_found(damaging: damage.Damage, left: Shop) -> None:
    invariant, what = DAMAGES[damaging]
    await left.start_nats()
    place = await damaging(left)

    code, report = await audited(left, "--at-rest")

    assert (code, report["verdict"]) == (1, "findings")
    assert [
        (number, where, said)
        for number, where, said in report["findings"]
        if number == invariant and place in where and what in said
    ]
    assert not (left.folder / "audit" / "checkpoint.sqlite").exists()


@pytest.mark.parametrize("damaging", [order_that_never_ended, lost_release, event_only_in_the_store])
async def test_damage_is_found_while_the_system_may_be_running(damaging: damage.Damage, left: Shop) -> None:
    """What happened long ago has no excuse, although orders may be under way."""
    await left.start_nats()
    last = max(found.fact.deadline for found in damage.rows(left, "order") if found.topic == "order.created.pending")
    await damaging(left)
    async for _ in attempts("the last order's time to run out", patience_s=60):
        if now() > last:
            break

    code, report = await audited(left, "--grace", "0")

    assert code == 1
    assert str(DAMAGES[damaging][0]) in report["findings_by_rule"]


async def test_what_is_under_way_is_no_finding_before_its_time(left: Shop) -> None:
    await left.start_nats()
    await order_that_never_ended(left)

    code, report = await audited(left, "--grace", str(timedelta(days=1).total_seconds()))

    assert (code, report["orders"]["PENDING"]) == (0, 1)


async def test_a_person_reads_what_is_wrong_first(left: Shop) -> None:
    await left.start_nats()
    place = await double_refund(left)

    read = await orders(left, "audit", "--answers", "0", "--at-rest")

    assert read.returncode == 1
    assert place in read.stdout
    assert "against 5: what an order's steps did fits its end" in read.stdout
    assert "findings; the first: " in read.stdout


@pytest.mark.parametrize("body", [b"\xff", b'{"order": {"user_id": "\xff"}}', b'{"x":' + b"[" * 100_000, b"{}"])
async def test_an_order_whose_newest_fact_cannot_be_read_is_a_finding(tmp_path: Path, body: bytes) -> None:
    """Its log says no more whose order it is, so nobody can ask order_svc about it; the others are asked about."""
    async with open_shop(tmp_path) as shop:
        await shop.register("mug", stock=10)
        for key in ("a", "b"):
            assert (await shop.place([("mug", 1)], key=key)).status_code == 200
        await shop.until_quiet()
        before = await told(shop, "audit")
        newest = damage.rows(shop, "order")[-1]
        damage.set_body(shop, "order", newest.fact_id, body)

        done = await orders(shop, "audit", "--json")

        assert done.returncode == 1, done.stderr
        report = json.loads(done.stdout)
        assert report["answers"] == {**before["answers"], "compared": before["answers"]["compared"] - 1}
        assert any(newest.fact_id in where for _, where, _ in report["findings"])
        assert not any(number == 9 for number, *_ in report["findings"])


async def test_a_damaged_file_is_found_by_a_full_audit(left: Shop) -> None:
    """An index without entries: every record is still read, in the order of the log."""
    await left.start_nats()
    damage.empty_index(left.folder / "coupon" / "events.sqlite")

    assert (await audited(left))[0] == 0
    code, report = await audited(left, "--full")

    assert (code, report["verdict"]) == (1, "findings")
    assert "coupon log" in report["findings"][0][1]
    assert "just rebuild coupon" in report["findings"][0][2]
