"""The checker finds nothing in an honest history, and names the invariant that each kind of damage breaks."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from contracts import (
    PointCharged,
    PointCredited,
    PointDeposited,
    PointRefunded,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReceived,
    ProductStockReturned,
)
from contracts.wire import STEPS, encode
from infra.local.services import ROOT
from ops.audit import disk_memory
from ops.fold import folded_logs, folded_stream, live
from ops.invariants import Checker, CouponSeen, Finding, OrderSeen, ProductSeen, check
from ops.invariants.copies import PAGE, LoggedFacts
from ops.invariants.findings import MOST_OF_A_KIND
from ops.invariants.live import differences
from tests.audit.paper import DEADLINE, OPENING, History, honest_history
from tests.domain.spec import AGGREGATES, SERVICES

LATER = OPENING + timedelta(hours=1)
STOCK_RECEIVED = ProductStockReceived(at=LATER, product_id="mug", quantity=3, idempotency_key="delivery")
STOCK_ADDED = ProductStockAdded(at=LATER, product_id="mug", quantity=3, idempotency_key="delivery")


@pytest.fixture(scope="module")
def honest() -> History:
    return honest_history()


@pytest.fixture
def history(honest: History) -> History:
    """A copy of the honest history, to be damaged."""
    return honest.copy()


def broken(findings: list[Finding]) -> list[int]:
    """The invariants, each once, in the order in which they were found to be broken."""
    return list(dict.fromkeys(finding.invariant for finding in findings))


def one_after_another(history: History, names: Sequence[str]) -> list[Finding]:
    """The findings when each log is fed as a whole, in this order, and then the stream."""
    checker = Checker(quiet=True)
    for name in names:
        for entry in history.logs[name]:
            checker.log(name, *entry)
    for message in history.stream:
        checker.message(*message)
    return checker.finish()


# Honest histories -----------------------------------------------------------------------------------------------------


def test_an_honest_history_breaks_none(honest: History) -> None:
    answers = live(folded_stream(honest.stream, AGGREGATES))
    assert check(honest.logs, honest.stream, quiet=True, live=answers) == []


def test_both_copies_fold_to_the_same(honest: History) -> None:
    logs, stream = folded_logs(honest.logs.values(), AGGREGATES), folded_stream(honest.stream, AGGREGATES)
    assert logs.early == stream.early == {}
    assert list(differences(live(logs), live(stream))) == []


@pytest.mark.parametrize("names", list(itertools.permutations(SERVICES)), ids=" ".join)
def test_the_logs_may_come_one_after_another(names: Sequence[str], honest: History) -> None:
    assert one_after_another(honest, names) == []


def test_the_stream_may_come_first(honest: History) -> None:
    checker = Checker(quiet=True)
    for message in honest.stream:
        checker.message(*message)
    for name, log in honest.logs.items():
        for entry in log:
            checker.log(name, *entry)
    assert checker.finish() == []


def test_whatever_is_under_way_breaks_none(honest: History) -> None:
    """History may be cut at any fact, in the middle of a transaction too."""
    for end in range(len(honest.recorded)):
        cut = honest.until(end)
        assert check(cut.logs, cut.stream, quiet=False, now=OPENING + DEADLINE) == []


def test_the_stream_may_lag_behind_the_logs(honest: History) -> None:
    assert check(honest.logs, honest.stream[:20], quiet=False) == []


def test_an_order_may_be_open_until_its_deadline_and_a_bound(honest: History) -> None:
    cut = honest.until(honest.recorded.index("order-confirmed@1") + 1)
    bound = timedelta(seconds=5)
    latest = cut.fact("order-confirmed@1").deadline + bound
    assert check(cut.logs, cut.stream, quiet=False, now=latest, bound=bound) == []
    late = check(cut.logs, cut.stream, quiet=False, now=latest + timedelta(seconds=1), bound=bound)
    assert [(finding.invariant, finding.where) for finding in late] == [(4, "order confirmed")]


def test_a_fact_of_newer_code_is_taken_on_trust(history: History) -> None:
    told = history.fact("product-mug@1")
    history.record(told, msgspec.json.encode({"type": "product.praised", "at": told.at, "product_id": "mug"}))
    assert check(history.logs, history.stream, quiet=True) == []


# Answers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key", "seen"),
    [
        ("products", "mug", ProductSeen(10_000, 9)),
        ("balances", "ann", 3_501),
        ("coupons", "spring", CouponSeen("ann", 300, None)),
        ("orders", "plain", OrderSeen("CANCELED", "customer-canceled", None, None, None)),
        ("orders", "nobody-knows", OrderSeen("CONFIRMED", None, 1, 0, 1)),
    ],
)
def test_an_answer_that_is_not_what_the_facts_say(kind: str, key: str, seen: object, honest: History) -> None:
    answers = live(folded_logs(honest.logs.values(), AGGREGATES))
    lied = answers._replace(**{kind: {**getattr(answers, kind), key: seen}})
    assert [finding[:2] for finding in check(honest.logs, honest.stream, quiet=True, live=lied)] == [
        (9, f"{kind.removesuffix('s').replace('balance', 'account')} {key}")
    ]
    assert len(list(differences(answers, lied))) == 1


def test_an_answer_that_is_missing(honest: History) -> None:
    answers = live(folded_logs(honest.logs.values(), AGGREGATES))
    assert [where for where, _ in differences(answers, answers._replace(balances={}))] == [
        "account ann",
        "account bob",
        "account cleo",
    ]


def test_the_services_are_folded_as_they_are_composed_to_run() -> None:
    """The check runs in a process of its own, because it imports all modules that a service runs with."""
    script = "from ops.fold import aggregates\nfor name, it in aggregates().items(): print(name, it.evolve.__module__)"
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    composed = dict(line.split() for line in output.splitlines())
    assert composed == {name: aggregate.evolve.__module__ for name, aggregate in AGGREGATES.items()}


def test_a_stream_in_any_order_folds_to_the_same(honest: History) -> None:
    fold = folded_stream(reversed(honest.stream), AGGREGATES)
    assert fold.early == {}
    assert live(fold) == live(folded_logs(honest.logs.values(), AGGREGATES))


def test_a_history_with_a_hole_folds_up_to_it(history: History) -> None:
    history.unpublish("account-ann@3")
    fold = folded_stream(history.stream, AGGREGATES)
    assert fold.states["account-ann"].version == 2
    assert min(fold.early["account-ann"]) == 4


@pytest.mark.parametrize("body", [b"", b'{"at":"\xff"}', b'{"at":"2026-03-02T00:00:00"}', b'{"x":' + b"[" * 100_000])
def test_a_record_that_cannot_be_read_is_a_finding(history: History, body: bytes) -> None:
    history.logs["coupon"][0] = history.logs["coupon"][0]._replace(body=body)

    assert "is not a fact" in check(history.logs, history.stream, quiet=True)[0].what


def test_findings_of_one_kind_are_not_kept_for_ever() -> None:
    checker = Checker(quiet=True)
    for sequence in range(2 * MOST_OF_A_KIND):
        checker.message(sequence, f"account-nobody@{sequence}", b"{}")
    findings = checker.finish()
    assert len(findings) == MOST_OF_A_KIND + 1
    assert findings[-1].what == f"and {MOST_OF_A_KIND} more findings of this kind"


# Damaged histories ----------------------------------------------------------------------------------------------------

Damage = Callable[[History], None]
DAMAGES: dict[Damage, tuple[int, ...]] = {}


def breaks(*invariants: int) -> Callable[[Damage], Damage]:
    """The damage breaks these invariants; the first one is found first."""

    def register(damage: Damage) -> Damage:
        DAMAGES[damage] = invariants
        return damage

    return register


def charge_of(deposited: PointDeposited) -> PointCharged:
    """The answer that belongs to this deposit."""
    return PointCharged(
        at=LATER,
        user_id=deposited.user_id,
        amount=deposited.points,
        idempotency_key=deposited.idempotency_key,
    )


# To one copy of history


@breaks(1, 7, 8)
def deleted_event(history: History) -> None:
    history.unlog(history.id("product.stock.held", "plain"))


@breaks(8)
def event_only_in_a_log(history: History) -> None:
    history.unpublish(history.id("coupon.used", "confirmed"))


@breaks(8)
def event_only_in_the_stream(history: History) -> None:
    charged = PointCharged(at=LATER, user_id="eve", amount=1, idempotency_key="forged")
    history.publish("account-eve@1", encode(charged))


@breaks(8)
def message_without_an_id(history: History) -> None:
    history.publish("", history.stream[0].body)


@breaks(2, 8)
def edited_amount_in_a_log(history: History) -> None:
    charged = history.fact("account-ann@1")
    history.replace_logged("account-ann@1", replace(charged, points=200))


@breaks(8)
def edited_time_in_a_log(history: History) -> None:
    charged = history.fact("account-ann@1")
    history.replace_logged("account-ann@1", replace(charged, at=LATER))


@breaks(8)
def other_bytes_under_one_id(history: History) -> None:
    """A repeat in the stream differs from the first."""
    told = history.fact("order-plain@1")
    history.publish("order-plain@1", encode(replace(told, at=LATER)))


@breaks(8)
def other_bytes_under_an_id_of_no_log(history: History) -> None:
    charged = PointCharged(at=LATER, user_id="eve", amount=1, idempotency_key="forged")
    history.publish("account-eve@1", encode(charged))
    history.publish("account-eve@1", encode(replace(charged, amount=2)))


@breaks(7)
def second_fact_under_one_id(history: History) -> None:
    log = history.logs["coupon"]
    log.append(log[0]._replace(position=log[-1].position + 1))


@breaks(7, 2)
def two_rows_swapped(history: History) -> None:
    log = history.logs["point"]
    one, other = (index for index, entry in enumerate(log) if entry[1:3] in (("account-ann", 2), ("account-ann", 3)))
    before, behind = log[one], log[other]
    log[one] = behind._replace(position=before.position)
    log[other] = before._replace(position=behind.position)


@breaks(2, 8)
def two_versions_swapped(history: History) -> None:
    one, other = history.fact("account-ann@2"), history.fact("account-ann@3")
    history.replace_logged("account-ann@2", other)
    history.replace_logged("account-ann@3", one)


@breaks(7)
def rows_out_of_order(history: History) -> None:
    log = history.logs["coupon"]
    log[0], log[1] = log[1], log[0]


@breaks(7)
def version_beyond_belief(history: History) -> None:
    history.logs["coupon"].append(history.logs["coupon"][-1]._replace(position=999, version=10**12))


@breaks(7)
def version_zero(history: History) -> None:
    history.logs["coupon"].append(history.logs["coupon"][-1]._replace(position=999, version=0))


# To both copies: orders


@breaks(10)
def two_creations_of_one_order(history: History) -> None:
    history.record(history.fact(history.id("order.created.pending", "plain")))


@breaks(4)
def order_that_never_ended(history: History) -> None:
    history.erase(history.id("order.confirmed", "plain"))


@breaks(4)
def confirmed_twice(history: History) -> None:
    history.record(history.fact(history.id("order.confirmed", "plain")))


@breaks(4)
def canceled_twice(history: History) -> None:
    history.record(history.fact(history.id("order.canceled", "returned")))


@breaks(4)
def canceled_before_its_deadline(history: History) -> None:
    its_id = history.id("order.canceled", "fenced")
    history.rewrite(its_id, at=history.fact(its_id).order.placed_at)


@breaks(4)
def ended_before_it_began(history: History) -> None:
    """Two versions swapped within one stream, in both copies."""
    one, other = history.fact("order-plain@1"), history.fact("order-plain@2")
    history.replace("order-plain@1", other)
    history.replace("order-plain@2", one)


@breaks(4, 5, 1)
def confirmed_and_then_refused(history: History) -> None:
    """A forged cancel."""
    canceled = history.fact(history.id("order.canceled", "no-stock"))
    history.record(replace(canceled, order_id="plain", order=history.fact("order-plain@1").order))


@breaks(5, 2)
def confirmed_and_a_step_undone(history: History) -> None:
    used = history.fact(history.id("point.used", "confirmed"))
    cause, points = history.id("order.confirmed", "confirmed"), used.order.points
    credited = PointCredited(at=LATER, cause=cause, order_id="confirmed", user_id=used.order.user_id, points=points)
    history.record(credited)
    history.record(PointRefunded(at=LATER, cause=cause, order_id="confirmed", order=used.order, points=points))


@breaks(7, 5)
def confirmed_and_a_step_not_done(history: History) -> None:
    history.erase(history.id("coupon.used", "plain"))


@breaks(5)
def wrong_amount_due(history: History) -> None:
    history.rewrite(history.id("order.confirmed", "confirmed"), amount_due=1)


@breaks(5)
def confirmed_with_another_discount(history: History) -> None:
    confirmed = history.fact(history.id("order.confirmed", "confirmed"))
    its_id = history.id("order.confirmed", "confirmed")
    history.rewrite(its_id, discount=confirmed.discount + 1, amount_due=confirmed.amount_due - 1)


@breaks(5)
def confirmed_with_other_points(history: History) -> None:
    confirmed = history.fact(history.id("order.confirmed", "confirmed"))
    its_id = history.id("order.confirmed", "confirmed")
    history.rewrite(its_id, points=confirmed.points + 1, amount_due=confirmed.amount_due - 1)


@breaks(5)
def confirmed_with_another_total(history: History) -> None:
    confirmed = history.fact(history.id("order.confirmed", "confirmed"))
    its_id = history.id("order.confirmed", "confirmed")
    history.rewrite(its_id, total=confirmed.total + 1, amount_due=confirmed.amount_due + 1)


@breaks(5)
def canceled_with_another_total(history: History) -> None:
    canceled = history.fact(history.id("order.canceled", "returned"))
    history.rewrite(history.id("order.canceled", "returned"), total=canceled.total + 1)


@breaks(5)
def canceled_with_another_discount(history: History) -> None:
    canceled = history.fact(history.id("order.canceled", "returned"))
    history.rewrite(history.id("order.canceled", "returned"), discount=canceled.discount + 1)


@breaks(5)
def fenced_behind_the_step_that_refused(history: History) -> None:
    fence = history.fact(history.id("coupon.use.voided", "fenced"))
    refused = history.fact(history.id("point.use.failed", "no-points"))
    history.record(replace(fence, order_id="no-points", order=refused.order))


@breaks(5)
def canceled_for_a_reason_no_step_gave(history: History) -> None:
    history.rewrite(history.id("order.canceled", "no-stock"), reason="points-insufficient")


@breaks(5, 2)
def double_refund(history: History) -> None:
    history.record(history.fact(history.id("point.refunded", "no-coupon")))


@breaks(5, 2)
def lost_refund(history: History) -> None:
    history.erase(history.id("point.refunded", "stuck"))


@breaks(5, 1)
def lost_release(history: History) -> None:
    history.erase(history.id("product.stock.returned", "withdrawn"))
    history.erase(history.id("product.released", "withdrawn"))


@breaks(5)
def lost_restore(history: History) -> None:
    history.erase(history.id("coupon.returned", "regretted"))
    history.erase(history.id("coupon.restored", "regretted"))


@breaks(5)
def lost_fence(history: History) -> None:
    history.erase(history.id("coupon.use.voided", "fenced"))


@breaks(5, 2)
def points_used_twice(history: History) -> None:
    history.record(history.fact(history.id("point.used", "stuck")))


@breaks(6)
def undone_but_never_done(history: History) -> None:
    """A forged refund."""
    order = history.fact("order-no-stock@1").order
    cause = history.id("order.canceled", "no-stock")
    history.record(PointRefunded(at=LATER, cause=cause, order_id="no-stock", order=order, points=0))


@breaks(6, 1)
def fence_that_moved_a_balance(history: History) -> None:
    its_id = history.id("product.reserve.voided", "fenced")
    fence = history.fact(its_id)
    history.erase(its_id)
    line = fence.order.lines[0]
    history.record(
        ProductStockReturned(
            at=LATER, cause=fence.cause, product_id=line.product_id, order_id="fenced", quantity=line.quantity
        )
    )
    history.record(fence)


@breaks(6, 2)
def action_behind_its_fence(history: History) -> None:
    used = history.fact(history.id("point.used", "stuck"))
    order = history.fact("order-fenced@1").order
    history.record(replace(used, order_id="fenced", order=order, points=order.points))


@breaks(6)
def fence_of_what_was_done(history: History) -> None:
    fence = history.fact(history.id("point.use.voided", "fenced"))
    used = history.fact(history.id("point.used", "confirmed"))
    history.record(replace(fence, order_id="confirmed", order=used.order))


# To both copies: single facts


@breaks(7, 5)
def deleted_event_in_both_copies(history: History) -> None:
    history.erase(history.id("point.used", "plain"))


@breaks(7)
def cause_that_does_not_exist(history: History) -> None:
    history.rewrite(history.id("coupon.used", "plain"), cause="account-bob@99")


@breaks(7)
def cause_that_is_no_fact(history: History) -> None:
    history.rewrite(history.id("coupon.used", "plain"), cause="whatever")


@breaks(7)
def cause_of_itself(history: History) -> None:
    its_id = history.id("coupon.used", "plain")
    history.rewrite(its_id, cause=its_id)


@breaks(7)
def no_cause(history: History) -> None:
    history.rewrite(history.id("coupon.used", "plain"), cause=None)


@breaks(7)
def answer_to_nobody(history: History) -> None:
    """A step answers an order that was never placed."""
    fence = history.fact(history.id("point.use.voided", "fenced"))
    history.record(replace(fence, order_id="nobody"))


@breaks(7)
def fact_in_the_stream_of_another(history: History) -> None:
    history.record(history.fact("account-bob@1"))
    history.rewrite("account-bob@2", user_id="ann")


@breaks(7)
def record_that_is_no_fact(history: History) -> None:
    charged = history.fact("account-bob@1")
    history.record(charged, b'{"type":"point.charged","at":"2026-03-02T09:00:00Z"}')
    history.record(charged, b"\xff")


@breaks(10)
def edited_order(history: History) -> None:
    its_id = history.id("order.confirmed", "plain")
    history.rewrite(its_id, order=replace(history.fact(its_id).order, user_id="eve"))


@breaks(10)
def charged_twice_with_one_key(history: History) -> None:
    deposited = history.fact("account-bob@1")
    history.record(deposited)
    history.record(charge_of(deposited))


@breaks(2)
def deposited_without_a_charge(history: History) -> None:
    history.record(replace(history.fact("account-bob@1"), idempotency_key="other"))


@breaks(2)
def charged_without_a_deposit(history: History) -> None:
    history.record(replace(charge_of(history.fact("account-bob@1")), idempotency_key="other"))


@breaks(2)
def charged_with_another_amount(history: History) -> None:
    deposited = replace(history.fact("account-bob@1"), idempotency_key="other")
    history.record(deposited)
    history.record(replace(charge_of(deposited), amount=deposited.points + 1))


@breaks(2)
def debited_without_an_answer(history: History) -> None:
    history.record(replace(history.fact(history.id("point.debited", "stuck")), order_id="plain", points=1))


@breaks(7, 2)
def debited_from_another_account(history: History) -> None:
    history.rewrite(history.id("point.debited", "confirmed"), user_id="cleo")


@breaks(6, 2)
def credited_twice(history: History) -> None:
    history.record(history.fact(history.id("point.credited", "stuck")))


@breaks(3)
def held_without_an_answer(history: History) -> None:
    history.record(replace(history.fact(history.id("coupon.held", "confirmed")), coupon_id="autumn", order_id="plain"))


@breaks(3)
def used_without_holding_the_coupon(history: History) -> None:
    history.erase(history.id("coupon.held", "confirmed"))


@breaks(6, 3)
def returned_twice(history: History) -> None:
    history.record(history.fact(history.id("coupon.returned", "returned")))


@breaks(1)
def received_without_an_addition(history: History) -> None:
    history.record(STOCK_RECEIVED)


@breaks(1)
def added_without_a_receipt(history: History) -> None:
    history.record(STOCK_ADDED)


@breaks(10)
def added_twice_with_one_key(history: History) -> None:
    for _ in range(2):
        history.record(STOCK_RECEIVED)
        history.record(STOCK_ADDED)


# To both copies: stock, points, coupons, money


@breaks(1)
def negative_stock_at_a_prefix(history: History) -> None:
    """All mugs but one arrive after they were sold; in the end the sums are right again."""
    stock = history.fact("product-mug@2")
    history.rewrite("product-mug@2", quantity=1)
    history.record(replace(stock, quantity=stock.quantity - 1, idempotency_key="late"))


@breaks(1)
def edited_quantity(history: History) -> None:
    history.rewrite(history.id("product.stock.held", "plain"), quantity=1)


@breaks(1)
def stock_held_by_no_reservation(history: History) -> None:
    cause = history.id("order.created.pending", "plain")
    history.record(ProductStockHeld(at=LATER, cause=cause, product_id="tea", order_id="plain", quantity=1))


@breaks(1, 2, 3, 5)
def edited_price(history: History) -> None:
    history.rewrite(history.id("product.reserved", "plain"), unit_prices=(1,), total=2)


@breaks(1, 2, 5)
def edited_total(history: History) -> None:
    history.rewrite(history.id("product.reserved", "no-points"), total=2)


@breaks(1)
def product_registered_twice(history: History) -> None:
    history.record(history.fact("product-mug@1"))


@breaks(2)
def negative_balance(history: History) -> None:
    """The charge is lowered below the points that she has spent."""
    history.rewrite("account-ann@1", points=200)


@breaks(2)
def edited_points(history: History) -> None:
    history.rewrite(history.id("point.used", "confirmed"), points=499)


@breaks(1, 2, 3, 5)
def more_points_than_the_order_costs(history: History) -> None:
    for name in ("product.reserved", "point.used", "coupon.used", "order.confirmed"):
        history.rewrite(history.id(name, "capped"), total=999)


@breaks(3, 5)
def coupon_used_by_two_orders(history: History) -> None:
    its_id = history.id("coupon.use.failed", "used-coupon")
    failed, used = history.fact(its_id), history.fact(history.id("coupon.used", "confirmed"))
    history.replace(
        its_id,
        replace(used, order_id="used-coupon", order=failed.order, unit_prices=failed.unit_prices, total=failed.total),
    )


@breaks(3, 5)
def discount_beyond_what_is_left(history: History) -> None:
    history.rewrite(history.id("coupon.used", "capped"), discount=20_000)


@breaks(3, 5)
def discount_beyond_the_coupons(history: History) -> None:
    history.rewrite(history.id("coupon.used", "confirmed"), discount=301)


@breaks(3, 5)
def discount_without_a_coupon(history: History) -> None:
    history.rewrite(history.id("coupon.used", "plain"), discount=1)


@breaks(3)
def coupon_of_another_customer(history: History) -> None:
    history.rewrite("coupon-spring@1", user_id="bob")


@breaks(3)
def coupon_that_had_expired(history: History) -> None:
    history.rewrite("coupon-spring@1", expires_at=OPENING)


@breaks(5, 3)
def coupon_that_was_not_ordered(history: History) -> None:
    """The coupon was never issued, either."""
    history.record(replace(history.fact(history.id("coupon.used", "confirmed")), coupon_id="forged"))


@breaks(6, 3, 5)
def coupon_taken_from_another_order(history: History) -> None:
    """The coupon was given back before, and another order has it now."""
    history.record(history.fact(history.id("coupon.returned", "returned")))
    history.record(history.fact(history.id("coupon.restored", "returned")))


@breaks(3)
def coupon_issued_twice(history: History) -> None:
    history.record(history.fact("coupon-spring@1"))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.replace("_", " "))
def test_damage_is_found(damage: Damage, history: History) -> None:
    damage(history)
    found = broken(check(history.logs, history.stream, quiet=True))
    if STEPS.following:  # what such a step does has no cause then, either
        found = [invariant for invariant in found if invariant != 7 or 7 in DAMAGES[damage]]
    assert found == list(DAMAGES[damage])


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.replace("_", " "))
@pytest.mark.parametrize("names", [SERVICES, list(SERVICES)[::-1]], ids=" ".join)
def test_damage_is_found_whichever_log_comes_first(names: Sequence[str], damage: Damage, history: History) -> None:
    """Of two facts that disagree, the one fed later is blamed."""
    damage(history)
    assert one_after_another(history, names) != []


# In several goes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a memory that has at most two generations of two entries of a table in memory."""
    return tmp_path / "checkpoint.sqlite"


def go_on(path: Path, history: History, begin: History, *, quiet: bool) -> list[Finding]:
    """Feed the facts of `history` that `begin` does not have. Keep the memory if nothing was found."""
    known = {name: len(log) for name, log in begin.logs.items()}
    with disk_memory.working_copy(path, of=path.exists(), generation=2) as memory:
        checker = Checker(quiet=quiet, now=OPENING, memory=memory)
        for name, log in history.logs.items():
            for entry in log[known[name] :]:
                checker.log(name, *entry)
        read = {message.sequence for message in begin.stream}
        for message in history.stream:
            if message.sequence not in read:
                checker.message(*message)
        findings = checker.finish()
        if not findings:
            disk_memory.keep(memory, path)
    return findings


@pytest.mark.parametrize("step", [1, 7, 40])
def test_a_checker_goes_on_where_another_one_stopped(step: int, honest: History, path: Path) -> None:
    """A checker may stop at every moment, also in the middle of a transaction or of an order."""
    begin = History()
    for end in [*range(step, len(honest.recorded), step), len(honest.recorded)]:
        cut = honest.until(end)
        assert go_on(path, cut, begin, quiet=False) == []
        begin = cut
    assert go_on(path, honest, begin, quiet=True) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.replace("_", " "))
def test_damage_is_found_with_little_at_hand(damage: Damage, history: History, path: Path) -> None:
    damage(history)
    with disk_memory.working_copy(path, of=False, generation=2) as memory:
        checker = Checker(quiet=True, memory=memory)
        for name, log in history.logs.items():
            for entry in log:
                checker.log(name, *entry)
        for message in history.stream:
            checker.message(*message)
        found = checker.finish()
    assert sorted(found) == sorted(one_after_another(history, list(history.logs)))
    assert not path.exists()


def test_a_hot_streams_facts_are_known_page_by_page(path: Path) -> None:
    with disk_memory.working_copy(path, of=False, generation=2) as memory:
        facts = LoggedFacts(memory)
        for version in range(1, 3 * PAGE + 2):
            facts.put("product-mug", version, version)
        facts.put("product-mug", 4 * PAGE, 7)
        facts.put("product-mug", 3 * PAGE + 2, 8)

        assert [facts.get("product-mug", version) for version in (1, PAGE, PAGE + 1, 3 * PAGE + 1)] == [
            1,
            PAGE,
            PAGE + 1,
            3 * PAGE + 1,
        ]
        assert [facts.get("product-mug", 3 * PAGE + behind) for behind in (2, 3, PAGE, PAGE + 1)] == [8, 0, 7, 0]
        assert facts.last_version("product-mug") == 4 * PAGE
