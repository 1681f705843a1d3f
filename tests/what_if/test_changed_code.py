"""Code that decides otherwise is found, where it does and nowhere else; what was asked by clients is not judged."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

import order_svc.domain
from contracts import CouponUseFailed, Fact, OrderConfirmed
from contracts.wire import decode
from coupon_svc.domain import coupon
from coupon_svc.domain import use as coupon_use
from infra.core.decider import Aggregate, Command
from infra.store.records import Notification
from ops.what_if.difference import Changed
from order_svc.domain import Expire
from point_svc.domain import charge
from point_svc.domain import use as point_use
from product_svc.domain import addition, product, reservation
from product_svc.domain.reservation import Reserve
from tests.what_if.recorded import logs_of, recorded, told, verdict, with_aggregates, with_edit, with_reactions

RecordedLogs = dict[str, list[Notification]]


@pytest.fixture
async def logs() -> RecordedLogs:
    return await logs_of(recorded())


@pytest.mark.parametrize(
    ("category", "module", "old", "new", "expected"),
    [
        pytest.param(
            "pointuse",
            point_use,
            "if points > command.fact.total:",
            "if points > 10 * command.fact.total:",
            {("point", "differs", ("point.use.failed",), ("point.used",))},
            id="points may exceed the total",
        ),
        pytest.param(
            "reservation",
            reservation,
            "stock.available < line.quantity",
            "stock.available <= line.quantity",
            {("product", "differs", ("product.stock.held", "product.reserved"), ("product.reserve.failed",))},
            id="the last piece is not sold",
        ),
        pytest.param(
            "nocoupon",
            coupon_use,
            "case Restore(fact) if fact.reason not in WITHDRAWALS:",
            "case Restore(fact) if False:",
            {("coupon", "in-addition", (), ("coupon.use.voided",))},
            id="refused orders are fenced, too",
        ),
        pytest.param(
            "pointuse",
            point_use,
            "PointUsed(points=points, **command.priced_order()))",
            "*[PointUsed(points=points, **command.priced_order())] * 2)",
            {("point", "differs", ("point.used",), ("point.used",) * 2)},
            id="the same is said twice",
        ),
        pytest.param(
            "pointuse",
            point_use,
            'return (PointUseFailed(reason="points-insufficient", **command.priced_order()),)',
            'return (PointUseFailed(reason="points-insufficient", **command.priced_order()),) * 2',
            {("point", "differs", ("point.use.failed",), ("point.use.failed",) * 2)},
            id="the same is refused twice",
        ),
        pytest.param(
            "pointuse",
            point_use,
            "if state.answer is not None:",
            'if state.answer not in (None, "used"):',
            {
                ("point", "in-addition", (), ("point.used",)),
                ("point", "in-addition", (), ("point.debited", "point.used")),
            },
            id="asked twice it says it again",
        ),
        pytest.param(
            "coupon",
            coupon,
            "case CouponReturned() | CouponRestored():\n            state.order_id = None",
            "case CouponReturned() | CouponRestored():\n            pass",
            {("coupon", "differs", ("coupon.used",), ("coupon.use.failed",))},
            id="the fold forgets that a coupon came back",
        ),
    ],
)
async def test_another_rule(
    logs: RecordedLogs, category: str, module: ModuleType, old: str, new: str, expected: set[Any]
) -> None:
    report = await verdict(logs, with_edit(category, module, old, new))

    assert told(report.differences) == expected
    assert report.total("differences") == len(report.differences)


async def test_only_the_decision_that_differs_is_told_and_none_that_would_have_followed(logs: RecordedLogs) -> None:
    old, new = "stock.available < line.quantity", "stock.available <= line.quantity"
    changed = with_edit("reservation", reservation, old, new)
    (found,) = (await verdict(logs, changed)).differences

    assert found.heard == "order.created.pending"
    assert found.cause is not None
    (record,) = [record for record in logs["product"] if record.position == found.position]
    assert (record.originator_id, record.topic) == ("product-rare", "product.stock.held")


async def test_an_amount_that_is_computed_otherwise(logs: RecordedLogs) -> None:
    old = "due = fact.total - points - fact.discount"
    report = await verdict(logs, with_edit("order", order_svc.domain, old, "due = fact.total - points"))

    with_discount = [
        record for record in logs["order"] if record.topic == "order.confirmed" and _confirmed(record).discount
    ]
    assert [one.position for one in report.differences] == [record.position for record in with_discount]
    for one in report.differences:
        (record,) = [record for record in with_discount if record.position == one.position]
        due = _confirmed(record).amount_due
        assert one.fields == (Changed("order.confirmed", "amount_due", due, due + _confirmed(record).discount),)


async def test_a_time_of_its_own(logs: RecordedLogs) -> None:
    def decide(command: reservation.Command, *states: Any) -> Sequence[Fact]:
        return [replace(fact, at=datetime.now(UTC)) for fact in reservation.decide(command, *states)]

    tree = with_aggregates(lambda name, one: dataclasses.replace(one, decide=decide) if name == "reservation" else one)
    report = await verdict(logs, tree)

    assert report.services["product"].differences == report.services["product"].decisions > 90
    assert {field.field for one in report.differences for field in one.fields} == {"at"}


async def test_a_decision_that_fails(logs: RecordedLogs) -> None:
    def decide(command: Any, *states: Any) -> Sequence[Fact]:
        if isinstance(command, Reserve) and len(command.fact.order.lines) == 3:
            raise ZeroDivisionError("three lines")
        return reservation.decide(command, *states)

    tree = with_aggregates(lambda name, one: dataclasses.replace(one, decide=decide) if name == "reservation" else one)
    report = await verdict(logs, tree)

    assert {(one.kind, one.why) for one in report.differences} == {("fails", "ZeroDivisionError: three lines")}
    then = [one for one in report.differences if one.position is not None]
    in_the_end = [one for one in report.differences if one.position is None]
    assert [one.cause for one in then] == [one.cause for one in in_the_end]
    assert then[0].recorded[-1] in ("product.reserved", "product.reserve.failed")


async def test_a_reaction_that_is_gone(logs: RecordedLogs) -> None:
    tree = with_reactions("point", lambda table: {fact: table[fact] for fact in table if fact is not CouponUseFailed})
    report = await verdict(logs, tree)

    assert {(one.service, one.kind, one.heard, one.recorded) for one in report.differences} == {
        ("point", "not-heard", "coupon.use.failed", ("point.refunded",))
    }
    assert len(report.differences) == sum(record.topic == "coupon.use.failed" for record in logs["coupon"])


async def test_a_reaction_that_is_new(logs: RecordedLogs) -> None:
    tree = with_reactions("coupon", lambda table: {**table, CouponUseFailed: lambda *_: 1 / 0})
    report = await verdict(logs, tree)

    assert told(report.differences) == {("coupon", "fails", (), ())}
    assert report.differences[0].heard == "coupon.use.failed"


async def test_a_reaction_that_asks_for_something_else(logs: RecordedLogs) -> None:
    def at_once(fact: Any, at: datetime, cause: str) -> Expire:
        return Expire(fact.order_id, at=fact.order.placed_at + timedelta(days=1), cause=cause)

    tree = with_reactions("order", lambda table: {**table, CouponUseFailed: at_once})
    report = await verdict(logs, tree)

    assert told(report.differences) == {("order", "differs", ("order.canceled",), ("order.canceled",))}
    changed = [field for field in report.differences[0].fields if field.field == "reason"]
    assert [(field.fact, field.now) for field in changed] == [("order.canceled", "deadline-exceeded")]


async def test_what_clients_and_the_deadlines_asked_for_is_not_decided_again(logs: RecordedLogs) -> None:
    asked = (
        order_svc.domain.Place,
        order_svc.domain.Cancel,
        order_svc.domain.Expire,
        product.Register,
        addition.AddStock,
        charge.Charge,
        coupon.Issue,
    )

    def never(aggregate: Aggregate) -> Aggregate:
        def decide(command: Command, *states: Any) -> Sequence[Fact]:
            assert not isinstance(command, asked)
            return aggregate.decide(command, *states)

        return dataclasses.replace(aggregate, decide=decide)

    report = await verdict(logs, with_aggregates(lambda _, aggregate: never(aggregate)))

    assert report.differences == []
    by_the_clock = [record for record in logs["order"] if b"deadline-exceeded" in record.state]
    assert len(by_the_clock) == 3
    by_clients = [record for log in logs.values() for record in log if b'"cause":null' in record.state]
    assert report.total("given") == len(by_clients) + len(by_the_clock)


def _confirmed(record: Notification) -> OrderConfirmed:
    fact = decode(record.state)
    assert isinstance(fact, OrderConfirmed)
    return fact
