"""What older code recorded is found where it stands: nothing of it is done a second time, and the rest goes on."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts import CouponRestored, CouponReturned, Fact, Line, Order, OrderCanceled, PointCredited, PointRefunded
from contracts.wire import NAMES, decode
from infra.store.records import Notification, Record
from infra.store.sqlite import SQLiteStore
from ops.fold import folded_logs, folded_stream, live
from ops.invariants import LogEntry, Message, check
from ops.invariants.live import differences
from ops.what_if.command import codes
from ops.what_if.report import decide_again
from order_svc.domain import Cancel, Place
from point_svc.domain.charge import Charge, ChargedDifferently
from product_svc.domain.addition import AddedDifferently, AddStock
from tests.bounded.kept import FILE, LATER, OTHER_FILE, Going, going, history, logs_of, recorded_in
from tests.domain.spec import AGGREGATES, SERVICES

Logs = dict[str, list[Notification]]
a_history = pytest.mark.parametrize("file", [FILE, OTHER_FILE], ids=["on paper", "on a real system"])


@pytest.fixture
async def logs(tmp_path: Path) -> Logs:
    return await recorded_in(tmp_path)


async def all_of(folder: Path, services: list[Going]) -> tuple[dict[str, list[LogEntry]], list[Message]]:
    """Both copies of history, if all that is recorded is published."""
    logs = {
        service.name: [LogEntry(one[0], one[1], one[2], one[4]) for one in await service.log()] for service in services
    }
    entries = itertools.chain.from_iterable(logs.values())
    return logs, [Message(n, f"{one.stream}@{one.version}", one.body) for n, one in enumerate(entries, 1)]


@pytest.fixture
async def services(tmp_path: Path, logs: Logs) -> AsyncIterator[dict[str, Going]]:
    async with (
        going(tmp_path, "order") as order,
        going(tmp_path, "product") as product,
        going(tmp_path, "point") as point,
        going(tmp_path, "coupon") as coupon,
    ):
        yield {one.name: one for one in (order, product, point, coupon)}


async def until_quiet(services: dict[str, Going]) -> None:
    """Deliver every fact to all who hear it, again and again, until nothing new follows."""
    while True:
        new: list[Fact] = []
        for log in [await service.log() for service in services.values()]:
            for record in log:
                for service in services.values():
                    if type(decode(record.state)) in service.service.reactions:
                        new += await service.hear(record)
        if not new:
            return


# It is read as before -------------------------------------------------------------------------------------------------


@a_history
async def test_it_folds_and_breaks_no_invariant(file: Path) -> None:
    logs = await logs_of(history(file))
    entries = {name: [LogEntry(one[0], one[1], one[2], one[4]) for one in log] for name, log in logs.items()}
    stream = [
        Message(n, f"{one.stream}@{one.version}", one.body)
        for n, one in enumerate(itertools.chain.from_iterable(entries.values()), 1)
    ]
    from_logs, from_stream = folded_logs(entries.values(), AGGREGATES), folded_stream(stream, AGGREGATES)

    assert list(differences(live(from_logs), live(from_stream))) == []
    assert check(entries, stream, quiet=False, live=live(from_logs)) == []


@a_history
async def test_the_same_is_decided_again(file: Path) -> None:
    report = await decide_again(history(file), codes(), 1_000)

    assert report.differences == []
    assert report.total("decisions") > 100


async def test_it_has_orders_with_every_end_and_open_ones(logs: Logs) -> None:
    facts = [decode(record.state) for log in logs.values() for record in log]

    assert {NAMES[type(fact)] for fact in facts} == {
        NAMES[fact] for service in SERVICES for fact in _said(service) if not fact.implied
    }
    assert any(fact.stream != record[1] for log in logs.values() for record in log for fact in [decode(record.state)])


def _said(service: str) -> list[type[Fact]]:
    return [fact for fact, name in NAMES.items() if name.partition(".")[0] == service]


# Nothing is done a second time ----------------------------------------------------------------------------------------


@a_history
async def test_each_of_its_facts_delivered_again_changes_nothing_that_was_answered(tmp_path: Path, file: Path) -> None:
    logs = await recorded_in(tmp_path, file)
    answered = {
        (name, cause) for name, log in logs.items() for one in log if (cause := decode(one.state).cause) is not None
    }
    for name in ("product", "point", "coupon"):
        async with going(tmp_path, name) as service:
            assert service.store.has_moved
            for record in itertools.chain.from_iterable(logs.values()):
                if (name, f"{record.originator_id}@{record.originator_version}") in answered and type(
                    decode(record.state)
                ) in service.service.reactions:
                    assert await service.hear(record) == ()
            assert await service.log() == logs[name]


async def test_a_cold_cache_and_a_batch_of_all_facts_change_nothing_either(tmp_path: Path, logs: Logs) -> None:
    """In one batch, with no state in memory: that is when a stream would be assumed new."""
    async with going(tmp_path, "point") as service:
        asked = [record for record in logs["product"] if record.topic == "product.reserved"]
        answered = {decode(record.state).cause for record in logs["point"]}
        asked = [record for record in asked if f"{record.originator_id}@{record.originator_version}" in answered]
        assert len(asked) > 20
        assert await asyncio.gather(*map(service.hear, asked)) == [()] * len(asked)
        assert await service.log() == logs["point"]


async def test_everything_that_is_open_ends_and_all_of_it_is_whole(tmp_path: Path, services: dict[str, Going]) -> None:
    await until_quiet(services)
    logs, stream = await all_of(tmp_path, list(services.values()))

    assert check(logs, stream, quiet=True, live=live(folded_logs(logs.values(), AGGREGATES))) == []
    states = {order: await services["order"].state(f"order-{order}") for order in OPEN}
    assert {order: state.status for order, state in states.items()} == OPEN


OPEN = {
    "open-both": "CONFIRMED",
    "open-points": "CONFIRMED",
    "open-plain": "CONFIRMED",
    "open-nothing": "CONFIRMED",
    "open-refused": "CANCELED",
}


@pytest.mark.parametrize(
    ("order_id", "user", "undone"),
    [
        ("done", "ann", ["point.credited", "point.refunded", "coupon.returned", "coupon.restored"]),
        ("done-plain", "bob", ["point.refunded", "coupon.restored"]),
        ("done-free", "ann", ["point.refunded", "coupon.returned", "coupon.restored"]),
        ("open-both", "ann", ["point.credited", "point.refunded", "coupon.returned", "coupon.restored"]),
        ("open-points", "cleo", ["point.credited", "point.refunded", "coupon.use.voided"]),
        ("open-plain", "bob", ["point.refunded", "coupon.use.voided"]),
        ("open-nothing", "ann", ["point.use.voided", "coupon.use.voided"]),
    ],
)
async def test_an_order_of_before_gets_back_what_it_took_once_and_only_once(
    tmp_path: Path, services: dict[str, Going], order_id: str, user: str, undone: list[str]
) -> None:
    before = (await services["point"].state(f"account-{user}")).balance
    (canceled,) = await services["order"].ask(Cancel(order_id, user, at=LATER))
    assert isinstance(canceled, OrderCanceled)
    record = (await services["order"].log())[-1]
    said = [NAMES[type(fact)] for name in ("point", "coupon") for fact in await services[name].hear(record)]
    again = [NAMES[type(fact)] for name in ("point", "coupon") for fact in await services[name].hear(record)]

    assert (said, again) == (undone, [])
    points = canceled.order.points if "point.credited" in undone else 0
    assert (await services["point"].state(f"account-{user}")).balance == before + points
    coupon_id = canceled.order.coupon_id
    if coupon_id is not None:
        assert (await services["coupon"].state(f"coupon-{coupon_id}")).order_id is None
    await until_quiet(services)
    logs, stream = await all_of(tmp_path, list(services.values()))
    assert check(logs, stream, quiet=True, live=live(folded_logs(logs.values(), AGGREGATES))) == []


async def test_a_refund_is_recorded_beside_the_account_and_survives_a_restart(tmp_path: Path, logs: Logs) -> None:
    async with going(tmp_path, "order") as order:
        await order.ask(Cancel("done", "ann", at=LATER))
        canceled = (await order.log())[-1]
    async with going(tmp_path, "point") as point, going(tmp_path, "coupon") as coupon:
        assert [type(fact) for fact in await point.hear(canceled)] == [PointCredited, PointRefunded]
        assert [type(fact) for fact in await coupon.hear(canceled)] == [CouponReturned, CouponRestored]
        assert [record[1:3] for record in (await point.log())[-1:]] == [("pointuse-done", 1)]
    for name in ("point", "coupon"):
        async with going(tmp_path, name) as service:
            assert await service.hear(canceled) == ()


# Keys -----------------------------------------------------------------------------------------------------------------


async def test_a_charge_of_before_is_a_repeat_and_with_another_amount_a_refusal(services: dict[str, Going]) -> None:
    point = services["point"]
    before = await point.state("account-dora")

    assert await point.ask(Charge("dora", 50_000, "first", at=LATER)) == ()
    assert await point.ask(Charge("dora", 13, "monthly-3", at=LATER)) == ()
    with pytest.raises(ChargedDifferently):
        await point.ask(Charge("dora", 14, "monthly-3", at=LATER))
    assert await point.ask(Charge("ann", 7, '"quoted"', at=LATER)) == ()
    assert await point.state("account-dora") == before
    assert len(await point.ask(Charge("dora", 13, "monthly-9", at=LATER))) == 2
    assert len(await point.ask(Charge("bob", 13, "monthly-3", at=LATER))) == 2, "the key of another customer"
    assert (await point.state("account-dora")).charged == before.charged + 13


async def test_added_stock_of_before_is_a_repeat_and_with_another_quantity_a_refusal(
    services: dict[str, Going],
) -> None:
    product = services["product"]
    before = await product.state("product-tea")

    assert await product.ask(AddStock("tea", 5, "delivery-2", at=LATER)) == ()
    assert await product.ask(AddStock("rare", 2, '"delivery-0"', at=LATER)) == ()
    with pytest.raises(AddedDifferently):
        await product.ask(AddStock("tea", 6, "delivery-2", at=LATER))
    assert await product.state("product-tea") == before
    assert len(await product.ask(AddStock("tea", 5, "delivery-9", at=LATER))) == 2
    assert (await product.state("product-tea")).available == before.available + 5


# Going on -------------------------------------------------------------------------------------------------------------


async def test_a_new_order_by_a_customer_of_before_is_answered_beside_the_account(services: dict[str, Going]) -> None:
    order = Order("ann", (Line("tea", 1),), 100, None, LATER)
    await services["order"].ask(Place("after", order, LATER.replace(year=2027), at=LATER))
    await until_quiet(services)

    assert (await services["order"].state("order-after")).status == "CONFIRMED"
    streams = [record.originator_id for record in await services["point"].log()][-10:]
    assert "pointuse-after" in streams
    assert "account-ann" in streams


async def test_older_code_may_have_recorded_more_meanwhile(tmp_path: Path, logs: Logs) -> None:
    """After a rollback: the newer code ran, then older code, and now the newer again."""
    async with going(tmp_path, "point"):
        pass
    charged = next(record for record in logs["point"] if record.topic == "point.charged")
    body = charged.state.replace(b'"first"', b'"during-the-rollback"')
    last = max(one.originator_version for one in logs["point"] if one.originator_id == charged.originator_id)
    async with SQLiteStore.open(tmp_path / "point" / "events.sqlite") as store:
        await store.insert_events([Record(charged.originator_id, last + 1, "point.charged", body)])
    fact = decode(body)
    async with going(tmp_path, "point") as point:
        assert await point.ask(Charge(fact.user_id, fact.amount, "during-the-rollback", at=LATER)) == ()  # type: ignore[attr-defined]
