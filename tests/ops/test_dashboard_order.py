"""The page of one order: what it waits for by the tables alone, its picture, what each service knew at any moment."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from contracts import REASONS, Fact, OrderCanceled, SagaFact
from contracts.wire import MSG_ID, NAMES, POSITION, STREAM, VERSION, encode, said_by, subject
from infra.archive.lines import ArchivedMessage
from infra.broker.fact_message import message_of
from infra.broker.numbering import first_sequence
from infra.broker.stored import StoredMessage
from infra.broker.streams import ensure_stream
from infra.consuming.dead_letter import DeadLetter
from infra.core.messages import StreamPosition
from infra.settings import Settings, load
from infra.store.records import Notification
from ops.at import shown_state
from ops.dashboard.facts import KEPT_S, KnownFacts, OrderReader
from ops.dashboard.lifelines import COLUMN, LEFT, FactRow, Hearer, draw
from ops.dashboard.order import FlowTables, ShownOrder, order_page, status
from ops.dashboard.order_routes import OrderBoard
from ops.dashboard.pages import render
from ops.dashboard.poller import Poller
from ops.dashboard.stream import StreamReader
from ops.dashboard.to_copy import commands, state_command, trace_address
from ops.errors import Unreachable
from ops.flow.command import parts
from ops.fold import aggregates
from ops.seen_facts import SeenFact, causal
from ops.status.seen import Look, Samples
from ops.waits import Due, due, finished, to_come
from tests.domain.plan import Plan, run
from tests.domain.test_any_order import PLANS, REPEATABLE
from tests.domain.world import World
from tests.examples import (
    ORDER_ID,
    coupon_used,
    order_canceled,
    order_confirmed,
    order_created,
    points_used,
    product_released,
    product_reserved,
    use_of_coupon_failed,
    use_of_points_failed,
)
from tests.infra.archive.test_archive import archived, bucket
from tests.object_store import object_store
from tests.ops.asking import told as told_by
from tests.ops.boards import Board, words
from tests.ops.test_dashboard import polled
from tests.ops.test_status import look, seen
from tests.saga.test_archive import next_generation
from tests.saga.test_dead_letters import say
from tests.shop import Shop, attempts

TABLES = FlowTables(parts(), aggregates())
MS = timedelta(milliseconds=1)


def told(facts: Sequence[tuple[str, Fact]]) -> list[SeenFact]:
    """These facts as the stream has them, each with its id; stored a millisecond after they were said."""
    return [
        SeenFact(
            number, its_id, NAMES[type(fact)], said_by(NAMES[type(fact)]), fact.at, fact.at + MS, fact.cause, fact, ""
        )
        for number, (its_id, fact) in enumerate(facts, 1)
    ]


def history(*facts: Fact) -> list[SeenFact]:
    """Facts that follow from each other, one after another, each two milliseconds after the one before."""
    found: list[tuple[str, Fact]] = []
    versions: Counter[str] = Counter()
    for number, fact in enumerate(facts):
        versions[fact.stream] += 1
        cause = found[-1][0] if found else None
        changed = {"at": facts[0].at + number * 2 * MS, "cause": cause}
        found.append((f"{fact.stream}@{versions[fact.stream]}", replaced(fact, changed)))
    return told(found)


def replaced(fact: Fact, changed: dict[str, Any]) -> Fact:
    return type(fact)(**{name: getattr(fact, name) for name in fact.__struct_fields__} | changed)


def orders(world: World) -> Iterator[list[SeenFact]]:
    """The facts of each order, as its page has them."""
    said: dict[str, list[tuple[str, Fact]]] = {}
    for one in world.said:
        if isinstance(one.fact, SagaFact):
            said.setdefault(one.order_id, []).append((one.fact_id, one.fact))
    return map(told, said.values())


def shown(*facts: Fact, **more: Any) -> ShownOrder:
    return order_page(ORDER_ID, history(*facts), TABLES, None, **more)


# What it waits for ----------------------------------------------------------------------------------------------------

ends: Counter[str] = Counter()


@REPEATABLE
@given(PLANS)
def test_what_any_order_waits_for_comes_and_in_the_end_nothing_is_due(plan: Plan) -> None:
    """At every moment, whatever was delivered, repeated or lost: a service that owes an answer says something later."""
    for facts in orders(run(plan)):
        for count in range(1, len(facts)):
            sofar, later = facts[:count], facts[count:]
            owed = due(sofar, TABLES.parts)
            assert {one.service for one in owed} <= {fact.service for fact in later}
            assert finished(sofar, owed) or owed
            if finished(sofar, owed):
                assert isinstance(later[0].fact, OrderCanceled)
                assert later[0].cause is None, "only a customer goes on with an order that is over"
        assert due(facts, TABLES.parts) == []
        assert finished(facts, [])
        assert to_come(facts, []) == []
        cancel = next((fact.fact for fact in facts if isinstance(fact.fact, OrderCanceled)), None)
        ends["confirmed" if cancel is None else cancel.reason] += 1


def test_every_end_was_among_them() -> None:
    assert set(ends) == {"confirmed", *REASONS}


def test_a_pending_order_waits_for_its_next_step_and_shows_the_rest_of_its_way() -> None:
    facts = history(order_created(), product_reserved())

    (one,) = due(facts, TABLES.parts)

    assert one == Due("point", "product.reserved", "point.used", "step", facts[1].stored)
    assert [(then.service, then.says, then.since) for then in to_come(facts, [one])[1:]] == [
        ("coupon", "coupon.used", None),
        ("order", "order.confirmed", None),
    ]


def test_after_the_last_step_order_svc_is_waited_for() -> None:
    facts = history(order_created(), product_reserved(), points_used(), coupon_used())

    assert [(one.service, one.says, one.what) for one in due(facts, TABLES.parts)] == [
        ("order", "order.confirmed", "end")
    ]


def test_a_fact_of_newer_code_is_an_answer_too() -> None:
    facts = history(order_created(), product_reserved())
    answer = facts[1]._replace(
        name="point.deferred", service="point", fact_id="deferral-x@1", cause=facts[1].fact_id, fact=None
    )

    assert due([*facts, answer], TABLES.parts) == []


@pytest.mark.parametrize("steps", [1, 3])
def test_what_follows_a_cancel_of_newer_code_is_not_known(steps: int) -> None:
    taken = [product_reserved(), points_used(), coupon_used()][:steps]
    *facts, canceled = history(order_created(), *taken, order_canceled("deadline-exceeded"))

    made = order_page(ORDER_ID, [*facts, canceled._replace(fact=None)], TABLES, None)

    assert (made.waits, made.pending, made.over) == ([], [], False)
    assert made.status.startswith("canceled by newer code, so what has to be taken back is not known here: install")


def test_after_a_refusal_the_cancel_and_each_undo_are_due_and_nothing_else_comes() -> None:
    facts = history(order_created(), product_reserved(), points_used(), use_of_coupon_failed("coupon-expired"))
    owed = due(facts, TABLES.parts)

    assert {(one.service, one.says) for one in owed} == {
        ("order", "order.canceled"),
        ("product", "product.released"),
        ("point", "point.refunded"),
    }
    assert to_come(facts, owed) == owed
    assert status(facts, owed) == "pending"


def test_after_a_cancel_a_step_that_was_not_taken_has_to_be_fenced_and_no_more() -> None:
    facts = history(order_created(), product_reserved(), order_canceled("deadline-exceeded"))

    assert {(one.service, one.hears, one.says) for one in due(facts, TABLES.parts)} == {
        ("product", "order.canceled", "product.released"),
        ("point", "order.canceled", "point.use.voided"),
        ("coupon", "order.canceled", "coupon.use.voided"),
    }


def test_compensated_is_a_state_of_its_own() -> None:
    refused = [order_created(), product_reserved(), use_of_points_failed("points-insufficient")]
    canceled = [*refused, order_canceled("points-insufficient")]

    assert shown(*canceled).status == "canceled, not compensated yet"
    assert not shown(*canceled).over
    assert shown(*canceled, product_released()).status == "canceled and compensated"
    assert shown(*canceled, product_released()).over


async def test_who_is_waited_for_is_said_with_how_it_is_and_how_long_it_takes_else() -> None:
    facts = history(order_created(), product_reserved())
    name = "saga_step_duration_seconds_bucket"
    samples = (
        f'{name}{{fact="point.used",le="0.1"}} 100\n{name}{{fact="point.used",le="+Inf"}} 100\n'
        f'{name}{{fact="point.refunded",le="9"}} 1\n'
        'saga_consumer_lag_seconds{consumer="point-hears-product-reserved"} 12\n'
        'saga_consumer_lag_seconds{consumer="point-hears-order-canceled"} 99\n'
    )
    letter = DeadLetter(7, "point", ORDER_ID, facts[0].at, 4, "no", "", "", "", StreamPosition(1, 0), b"", b"")
    well = await polled(look(0, point=seen("point", samples)))
    away = await polled(look(0, point=seen("point", trouble="point_svc is away")))

    (wait,) = order_page(ORDER_ID, facts, TABLES, well).waits
    assert (wait.usual, wait.state) == (
        "usually 50 ms, 99 % within 99 ms",
        "ready, hears product.reserved 12 s late",
    )
    assert not wait.troubled
    (wait,) = order_page(ORDER_ID, facts, TABLES, well, letters=[letter]).waits
    assert wait.state.endswith("12 s late; 1 dead letter of this order")
    assert wait.troubled
    (wait,) = order_page(ORDER_ID, facts, TABLES, away).waits
    assert (wait.state, wait.troubled) == ("point_svc is away", True)
    odd = await polled(look(0, point=seen("point", unmeasured="its /metrics is odd", samples=Samples())))
    (wait,) = order_page(ORDER_ID, facts, TABLES, odd).waits
    assert (wait.state, wait.troubled) == ("ready; its /metrics is odd", True)
    assert wait.usual == ""
    restarted = seen("point", f'{name}{{fact="point.used",le="+Inf"}} 0')
    for later in (
        seen("point", trouble="point_svc is away"),
        seen("point", unmeasured="odd", samples=Samples()),
        restarted,
    ):
        (wait,) = order_page(
            ORDER_ID, facts, TABLES, await polled(look(0, point=seen("point", samples)), look(1, point=later))
        ).waits
        assert wait.usual == "usually 50 ms, 99 % within 99 ms"


# Its picture ----------------------------------------------------------------------------------------------------------


def test_arrows_say_who_answered_who_has_to_and_who_need_not() -> None:
    made = shown(order_created(), product_reserved(), use_of_points_failed("points-insufficient"))

    rows = {row.row.fact: row for row in made.drawing.rows}
    assert [(h.service, h.kind) for h in rows["order.created.pending"].row.hearers] == [("product", "answered")]
    assert {(h.service, h.kind) for h in rows["point.use.failed"].row.hearers} == {("product", "due"), ("order", "due")}
    assert rows["point.use.failed"].row.kind == "stopped"
    assert rows["product.released"].row.kind == "pending undone"
    assert [row.margin for row in (one.row for one in made.drawing.rows)] == [
        "0.0 ms",
        "2.0 ms",
        "4.0 ms",
        "due",
        "due",
    ]


def test_a_row_is_drawn_from_the_one_that_says_to_those_that_hear() -> None:
    made = draw([FactRow("f", "b", [Hearer("a", "late", "3 ms"), Hearer("c"), Hearer("b")])], ["a", "b", "c"])

    (row,) = made.rows
    assert (row.x, row.anchor) == (LEFT + COLUMN, "start")
    left, right = row.arrows
    assert (left.end > LEFT, left.head.startswith(f"{LEFT},"), left.note) == (True, True, "3 ms")
    assert right.head.startswith(f"{LEFT + 2 * COLUMN},")
    assert made.width > LEFT + 2 * COLUMN


def test_the_time_before_a_fact_is_split_at_the_stream() -> None:
    facts = history(order_created(), product_reserved(), points_used())
    late = [facts[0], facts[1]._replace(stored=facts[1].at + 9 * MS), facts[2]._replace(at=facts[1].at + 12 * MS)]

    made = order_page(ORDER_ID, late, TABLES, None)

    hops = made.facts[2].hops
    assert hops is not None
    assert (hops.into_stream_ms, hops.from_stream_ms, hops.share, hops.first) == (9, 3, 100, 75)
    assert made.facts[0].hops is None


def test_a_clock_that_lags_gives_no_negative_time() -> None:
    facts = history(order_created(), product_reserved())
    early = [facts[0]._replace(stored=facts[0].at - MS), facts[1]._replace(at=facts[0].at - 5 * MS)]

    hops = order_page(ORDER_ID, early, TABLES, None).facts[1].hops

    assert hops is not None
    assert (hops.into_stream_ms, hops.from_stream_ms) == (0, 0)


# What to copy ---------------------------------------------------------------------------------------------------------


def test_a_fact_has_the_commands_that_show_it_where_it_is() -> None:
    created, reserved, failed = history(
        order_created(), product_reserved(), use_of_points_failed("points-insufficient")
    )
    created = created._replace(position=7)
    second = reserved._replace(sequence=first_sequence(2) + 4, position=8)

    assert commands(created, TABLES.aggregates) == [
        "nats stream get EVENTS 1",
        f"just at order {ORDER_ID} --position 7",
    ]
    assert commands(second, TABLES.aggregates, (2, 3)) == [
        f"nats stream get EVENTS_2 {2 * 10**9 + 5}",
        f"just at reservation {ORDER_ID} --position 8",
    ]
    assert commands(created, TABLES.aggregates, (2, 3))[0].startswith("just at "), "its generation is archived"
    assert commands(created._replace(sequence=0), ()) == []
    assert commands(failed, TABLES.aggregates)[-1] == "just what-if"
    assert state_command("account-u1", 3) == "just at user u1 --position 3"
    assert state_command("order-x;rm -r .", 3) == "", "it would be pasted into a shell"


def test_a_trace_has_the_id_of_its_order() -> None:
    order_id = "2e86ac2065f70ff4b21b2634a80468d3"
    assert trace_address("http://jaeger/trace/{trace_id}?x", order_id) == f"http://jaeger/trace/{order_id}?x"
    assert trace_address("", order_id) == ""
    assert len(trace_address("{trace_id}", "o1")) == 32


# What each service knew -----------------------------------------------------------------------------------------------


@REPEATABLE
@given(PLANS)
def test_at_the_end_the_states_are_those_of_the_services(plan: Plan) -> None:
    world = run(plan)
    heads = {stream: head.state for service in world.services for stream, head in service.heads.items()}
    for facts in orders(world):
        made = order_page("any", facts, TABLES, None)
        for one in made.states:
            assert msgspec.to_builtins(one.fields) == shown_state(heads[one.stream])
        assert {one.stream for one in made.states} == {fact.fact.stream for fact in facts if fact.fact}
        assert [len(made.facts), made.scrubber.most] == [len(facts)] * 2


def test_a_moment_is_a_fact_and_all_before_it() -> None:
    made = shown(order_created(), product_reserved(), points_used(), coupon_used(), at="reservation@1")

    assert [(one.service, one.fields.get("status")) for one in made.states] == [("order", "PENDING"), ("product", None)]
    assert [one.faded for one in made.facts] == [False, False, True, True]
    assert made.scrubber.number == 2
    assert made.scrubber.places == {"first": "order@1", "previous": "order@1", "next": "pointuse@1", "last": None}
    assert shown(order_created(), product_reserved(), at="nothing@9").scrubber.number == 2


def test_each_fact_says_what_it_changed() -> None:
    made = shown(order_created(), product_reserved(), points_used(), coupon_used(), order_confirmed())

    changes = {change.field: (change.before, change.after) for change in made.facts[4].changes}
    assert changes["status"] == ("PENDING", "CONFIRMED")
    assert changes["first_end"][0] is None
    assert "order" not in changes


def test_a_fact_of_newer_code_is_shown_by_its_name() -> None:
    facts = history(order_created(), product_reserved())
    facts.append(facts[1]._replace(name="product.recalled", fact_id="recall-x@1", fact=None, sequence=3))

    html = render("order_part.html", shown=order_page(ORDER_ID, facts, TABLES, None))

    assert "product.recalled" in html
    assert "of newer code" in html


def test_hostile_texts_are_shown_as_text() -> None:
    evil = "<img src=x onerror=alert(1)>"
    made = shown(order_created())
    made = made._replace(
        heading=[[""], [evil]], trouble=evil, states=[made.states[0]._replace(fields={"a": {"b": evil}})]
    )

    html = render("order_part.html", shown=made)

    assert "<img" not in html
    assert html.count("&lt;img") == 2
    assert "\\u003cimg" in html


async def no_logs(_: str) -> list[SeenFact]:
    return []


# Reading --------------------------------------------------------------------------------------------------------------


async def test_all_who_look_at_an_order_cost_one_look_at_the_stream() -> None:
    asked: list[str] = []

    async def latest(subjects: Sequence[str], begin: str) -> list[Any]:
        asked.append(begin)
        return []

    reader = OrderReader(latest, no_logs)
    await asyncio.gather(*(reader.facts("o1") for _ in range(50)), reader.facts("o2"))

    assert sorted(asked) == ["order.created.pending.o1", "order.created.pending.o2"]


async def test_without_the_stream_the_logs_add_to_what_was_read_and_then_the_stream_counts_alone() -> None:
    facts = history(order_created(), product_reserved(), points_used())
    logged = [fact._replace(sequence=0) for fact in facts]
    here = False

    async def latest(subjects: Sequence[str], begin: str) -> list[StoredMessage]:
        if not here:
            raise Unreachable("the broker is away")
        return []

    async def in_logs(order_id: str) -> list[SeenFact]:
        return logged if order_id == ORDER_ID else []

    reader = OrderReader(latest, in_logs)
    reader._kept[ORDER_ID] = (float("-inf"), KnownFacts(facts[:2]))

    assert await reader.facts(ORDER_ID) == KnownFacts([*facts[:2], logged[2]], "the broker is away")
    with pytest.raises(Unreachable, match="the broker is away"):
        await reader.facts("another")
    here = True
    await asyncio.sleep(KEPT_S)
    assert (await reader.facts(ORDER_ID)).trouble == ""


async def test_a_page_is_told_why_it_cannot_be_kept_up_to_date_and_then_goes_on() -> None:
    facts = history(order_created(), product_reserved())
    away = [True]

    class Stream(StreamReader):
        async def dead_letters(self, subject: str, *, whole: bool, most: int = 1) -> list[DeadLetter]:
            return []

    class Reader(OrderReader):
        async def facts(self, order_id: str) -> KnownFacts:
            if away[0]:
                raise Unreachable("the broker is away")
            return KnownFacts(facts)

    settings = load(Settings, "nats", 4222, {})
    poller, stream = Poller(no_services), Stream(settings)
    board = OrderBoard(poller, stream, TABLES, Reader(stream.latest, no_logs), clock=lambda: facts[0].at)
    async with aclosing(board.events(ORDER_ID, "", 0)) as events:
        first = (await anext(events)).decode()
        away[0] = False
        second = (await anext(events)).decode()
        away[0] = True
        third = (await anext(events)).decode()
        away[0] = False
        fourth = (await anext(events)).decode()

    assert first == "id: 0\nevent: trouble\ndata: the broker is away\n\n"
    assert (second.startswith("id: 2\ndata:"), third == first) == (True, True)
    assert fourth == second


async def no_services() -> Look:
    return Look(0, ())


def test_facts_of_logs_are_by_time_but_after_their_causes() -> None:
    facts = history(order_created(), product_reserved(), points_used())
    first, second, third = (fact._replace(sequence=0) for fact in facts)
    early = third._replace(at=first.at - MS)

    assert causal([early, second, first]) == [first, second, early]
    assert causal([first._replace(cause=second.fact_id), second]) != [], "a circle ends, too"


def stored(fact: SeenFact, *, resent: bool = False) -> StoredMessage:
    """The message in the stream that has this fact."""
    assert fact.fact is not None
    body = encode(replaced(fact.fact, {"cause": fact.cause}))
    name, _, _, head = message_of(Notification(1, *fact.stream_version, fact.name, body), "", resent=resent)
    return StoredMessage(fact.sequence, name, body, head.encode(), fact.sequence * 10**9)


async def test_facts_that_were_published_again_keep_their_places() -> None:
    first, second, third = history(order_created(), product_reserved(), order_canceled("customer-canceled"))
    kept = [stored(second), stored(third._replace(cause=None)), stored(first._replace(sequence=9), resent=True)]

    async def latest(subjects: Sequence[str], begin: str) -> list[StoredMessage]:
        return kept

    facts = (await OrderReader(latest, no_logs).facts(ORDER_ID)).facts
    made = order_page(ORDER_ID, facts, TABLES, None)

    assert [(one.fact.sequence, one.ms) for one in made.facts] == [(9, 0), (2, 2), (3, 4)]
    assert (made.sequence, made.facts[1].hops) == (9, None)


# A running dashboard --------------------------------------------------------------------------------------------------


@pytest.fixture
async def board(shop: Shop) -> Board:
    made = Board(shop)
    await made.start()
    await shop.register("mug")
    await shop.charge("u1", 10_000)
    return made


async def test_an_order_is_shown_whole_without_a_script(board: Board) -> None:
    order_id = (await board.shop.place([("mug", 2)], points=100)).json()["order_id"]

    text = await board.text(f"/orders/{order_id}")

    assert "confirmed user u1" in text
    assert "Waits for nothing" in text
    facts = ["order.created.pending", "product.reserved", "point.used", "coupon.used", "order.confirmed"]
    assert re.search(".*".join(map(re.escape, facts)), text)
    assert "4 facts" not in text
    at = await board.text(f"/orders/{order_id}?at=reservation@1")
    assert "2 of 5 facts" in at
    assert "status PENDING" in at


async def test_what_is_copied_of_an_order_shows_just_that(shop: Shop) -> None:
    shop.env["DASHBOARD_TRACE_URL"] = "http://127.0.0.1:16686/trace/{trace_id}"
    board = Board(shop)
    await board.start()
    await shop.register("mug")
    order_id = (await shop.place([("mug", 1)])).json()["order_id"]
    await shop.until_ended(order_id)

    html = (await board.get(f"/orders/{order_id}")).text

    copied = re.findall(r'data-copy="([^"]+)"', html)
    for event in await shop.events():
        if event.fact_id.partition("@")[0].endswith(order_id):
            assert f"nats stream get EVENTS {event.sequence}" in copied
    states = [one.split()[1:] for one in copied if "--position" in one]
    assert len(states) == 5
    for state in states:
        assert (await told_by(shop, *state))["position"] == int(state[-1])
    assert f'href="http://127.0.0.1:16686/trace/{order_id}"' in html


async def test_an_order_that_nobody_placed_is_said_to_be_none(board: Board) -> None:
    assert "have no order 2e86ac" in await board.text("/orders/2e86ac2065f70ff4b21b2634a80468d3", 404)
    assert "no id of an order" in await board.text("/orders/a.b", 404)


async def test_a_waiting_order_lives_until_it_is_over(board: Board) -> None:
    shop = board.shop
    await shop.kill("point")
    placing = asyncio.create_task(shop.place([("mug", 2)], points=100))
    order_id = ""
    async for _ in attempts("the order to wait"):
        if found := (await shop.get("order", "/ops/orders?status=PENDING")).json()["orders"]:
            order_id = found[0]["order_id"]
            break
    text = await board.until(f"/orders/{order_id}", "cannot be reached")
    assert "point_svc: point_svc at http://127.0.0.1:" in text
    assert "point_svc to hear product.reserved and to say point.used , since" in text

    seen_last: list[int] = []
    async with aclosing(board.events(f"/orders/{order_id}/live")) as events:
        first = await anext(events)
        await shop.start("point")
        async for its_id, name, data in events:
            seen_last.append(its_id)
            if name == "finished":
                assert words(data).count("order.confirmed") > 1
                break
    await placing
    assert seen_last == sorted(seen_last)
    assert first[0] < seen_last[-1]

    async with aclosing(board.events(f"/orders/{order_id}/live", last=seen_last[-1])) as again:
        assert [(its_id, name) async for its_id, name, _ in again] == [(seen_last[-1], "finished")]


async def test_what_a_page_has_seen_is_not_sent_again(board: Board) -> None:
    shop = board.shop
    await shop.kill("coupon")
    placing = asyncio.create_task(shop.place([("mug", 1)], points=1))
    async for _ in attempts("the order to wait for coupon_svc"):
        if found := (await shop.get("order", "/ops/orders?status=PENDING")).json()["orders"]:
            order_id = found[0]["order_id"]
            if "point.used" in await shop.facts(order_id):
                break
    await board.until(f"/orders/{order_id}", "coupon_svc: coupon_svc at")
    async with aclosing(board.events(f"/orders/{order_id}/live")) as events:
        its_id, _, _ = await anext(events)

    async with aclosing(board.events(f"/orders/{order_id}/live", last=its_id)) as again:
        await shop.start("coupon")
        async for now_id, _, data in again:
            if now_id == its_id:
                assert "cannot be reached" not in data, "only what changed beside the facts"
            else:
                break
    await placing


async def test_without_the_broker_the_page_says_so_and_goes_on_when_it_is_back(board: Board) -> None:
    shop = board.shop
    await shop.kill("coupon")
    placing = asyncio.create_task(shop.place([("mug", 1)], points=1))
    async for _ in attempts("the order to wait"):
        if found := (await shop.get("order", "/ops/orders?status=PENDING")).json()["orders"]:
            order_id = found[0]["order_id"]
            break
    async with aclosing(board.events(f"/orders/{order_id}/live")) as events:
        await anext(events)
        await shop.kill("nats")
        async for _, _, data in events:
            if "cannot be read" in data:
                assert "order.created.pending" in data, "the facts that were read stay"
                break
        assert "the broker at 127.0.0.1" in await board.text("/orders/unknown", 503)
        text = await board.text(f"/orders/{order_id}?at=reservation@1")
        assert "status PENDING" in text
        await shop.start_nats()
        await shop.start("coupon")
        async for _, name, data in events:
            if name == "finished":
                assert "cannot be read" not in data
                break
    await placing


async def test_an_order_of_a_sealed_and_of_an_archived_generation_is_shown(board: Board) -> None:
    order_id = await next_generation(board.shop, "first")
    async for _ in attempts("the generation to be sealed"):
        done = await told_by(board.shop, "archive")
        before = await board.text(f"/orders/{order_id}")
        assert "5 of 5 facts" in before
        if done["deleted"]:
            break

    after = await board.text(f"/orders/{order_id}")

    assert "5 of 5 facts" in after
    assert "confirmed user u1" in after
    assert "nats stream get" not in after, "the stream has it no more"


async def test_a_foreign_message_neither_is_a_fact_nor_hides_one(board: Board) -> None:
    order_id = (await board.shop.place([("mug", 1)])).json()["order_id"]
    for fact in ("order.confirmed", "order.canceled", "product.released"):
        await say(board.shop, f"{fact}.{order_id}", b'{"type": "x"}')

    text = await board.text(f"/orders/{order_id}")

    assert "confirmed user u1" in text
    assert "5 of 5 facts" in text


async def test_without_the_broker_an_order_is_shown_from_the_services_logs(board: Board) -> None:
    shop = board.shop
    order_id = (await shop.place([("mug", 1)], points=1)).json()["order_id"]
    await shop.kill("nats")
    await shop.kill("coupon")
    (shop.folder / "coupon" / "events.sqlite").unlink()

    text = await board.until(f"/orders/{order_id}", "4 of 4 facts")  # coupon_svc's log is gone

    assert "confirmed the broker at 127.0.0.1:" in text
    assert "cannot be read" in text
    assert "read from the log" in text
    assert "position 1 of the log of order_svc" in text


# The archive ----------------------------------------------------------------------------------------------------------


def archived_fact(fact: Fact, sequence: int) -> ArchivedMessage:
    lines = {MSG_ID: f"{fact.stream}@1", STREAM: fact.stream, VERSION: "1", POSITION: "1"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    body = encode(fact)
    return ArchivedMessage(
        sequence, subject(NAMES[type(fact)], body), body, f"NATS/1.0\r\n{head}\r\n".encode(), sequence
    )


async def test_an_order_that_was_archived_since_is_found_in_a_bucket(
    broker: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [order_created(order_id=f"o{number}") for number in range(2)]
    with object_store(tmp_path / "store") as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        settings = load(Settings, "nats", 4_222, {**broker.env, **store.env, "DATA_DIR": str(tmp_path)})
        async with broker.broker() as nc:
            await ensure_stream(nc.jetstream(), settings, 2)
        reader = StreamReader(settings)
        try:
            for number, order in enumerate(orders):
                message = archived_fact(order, first_sequence(number))
                archived(bucket(store, tmp_path), number, [message])
                found = await reader.latest([message.subject], message.subject)
                assert [one.body for one in found] == [message.body]
        finally:
            await reader.close()


async def test_an_archive_that_cannot_be_read_is_named_and_not_the_broker(broker: Shop, tmp_path: Path) -> None:
    settings = load(Settings, "nats", 4_222, {**broker.env, "DATA_DIR": str(tmp_path)})
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "EVENTS.json").write_text("{")
    async with broker.broker() as nc:
        await ensure_stream(nc.jetstream(), settings, 1)
    reader = StreamReader(settings)
    try:
        with pytest.raises(Unreachable, match=r"^the manifest EVENTS\.json cannot be read"):
            await reader.latest(["order.created.pending.o1"], "order.created.pending.o1")
    finally:
        await reader.close()
