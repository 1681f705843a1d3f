"""The spans of an order are its facts as a tree, by ids alone: for every end, in any order, with any repeats."""

import random
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import REASONS, Fact
from contracts.spans import (
    ACCEPTED,
    HeardMessage,
    RecordedFact,
    Span,
    SpanContext,
    SpanEvent,
    SpanKind,
    Trigger,
    dead_letter_span,
    order_spans,
    recorded_fact,
    root,
    sample,
    span_id,
    timer_span,
    trace_id,
    work_spans,
)
from infra.core.decider import Command
from order_svc.ids import key_of, order_id
from tests.domain.plan import Plan, begun, play, run
from tests.domain.test_any_order import PLANS, REPEATABLE
from tests.domain.world import Said, Service, World
from tests.examples import (
    CAUSE,
    ORDER_ID,
    order_canceled,
    order_confirmed,
    order_created,
    product_registered,
    product_reserved,
)

IDS: Final = st.text("0123456789abcdef", min_size=32, max_size=32).filter(lambda text: int(text, 16) != 0)
ANY_ID: Final = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=64)
FACT_IDS: Final = st.builds("{}-{}@{}".format, st.sampled_from(["order", "reservation"]), ANY_ID, st.integers(1, 99))

ENOUGH: Final = 2
"""Traces that have to come by each end and reason: a property that nothing tried to break is no property."""

# Identity -------------------------------------------------------------------------------------------------------------


@given(IDS)
def test_the_trace_of_an_order_has_its_id(order: str) -> None:
    assert f"{trace_id(order):032x}" == order


@given(ANY_ID)
def test_every_id_gives_a_trace_that_w3c_takes(order: str) -> None:
    assert 0 < trace_id(order) < 2**128
    assert trace_id(order) == trace_id(order)


@given(ANY_ID, ANY_ID)
def test_two_orders_have_two_traces(one: str, other: str) -> None:
    assert (trace_id(one) == trace_id(other)) == (one == other)


def test_an_id_of_zeros_is_a_trace_too() -> None:
    assert trace_id("0" * 32) != 0
    assert trace_id("0" * 32) != trace_id("0" * 31)


@given(FACT_IDS, FACT_IDS)
def test_the_span_of_a_fact_follows_from_its_id_alone(one: str, other: str) -> None:
    assert 0 < span_id(one) < 2**64
    assert (span_id(one) == span_id(other)) == (one == other)


def test_ids_are_what_they_were() -> None:
    """Traces that a backend keeps, and those of other versions of the code, would not join otherwise."""
    order = "2e86ac2065f70ff4b21b2634a80468d3"

    assert trace_id(order) == 0x2E86AC2065F70FF4B21B2634A80468D3
    assert trace_id("o1") == 0x2352DA7280F1DECC3ACF1BA84EB945C9
    assert root(order).span_id == span_id(f"order-{order}@1") == 0x274B4225306C5F22
    assert timer_span("order-o1@2") == SpanContext(0xEC6E2685EE2261A8A32F0A1AA66E624C, 0x2228B5158BE18A18)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_orders_is_sampled(ratio: float) -> None:
    keys = random.Random(18)
    orders = [order_id("ann", key_of(1_790_000_000_000 + n, keys.getrandbits(80))) for n in range(4_000)]

    sampled = sum(map(sample(ratio), orders))

    assert abs(sampled / len(orders) - ratio) < 0.03
    assert ratio not in (0.0, 1.0) or sampled == ratio * len(orders)


@given(IDS, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_has_every_order_of_a_smaller_one(order: str, one: float, other: float) -> None:
    small, large = sorted([one, other])

    assert sample(small)(order) <= sample(large)(order)


# Trees ----------------------------------------------------------------------------------------------------------------


def recorded_facts(said: Sequence[Said], after: int = 0) -> Iterator[RecordedFact]:
    """What was recorded of orders, each with its place among all."""
    for sequence, one in enumerate(said[after:], after + 1):
        fact = recorded_fact(one.fact, one.fact_id, sequence, sequence * 1_000)
        if fact is not None:
            yield fact


def facts_of(world: World) -> dict[str, list[RecordedFact]]:
    """The same by order."""
    found: dict[str, list[RecordedFact]] = {}
    for fact in recorded_facts(world.said):
        found.setdefault(fact.order_id, []).append(fact)
    return found


def tree(spans: Iterable[Span]) -> dict[int, int | None]:
    """Span → parent."""
    return {span.context.span_id: span.parent for span in spans}


def assert_is_the_tree_of(facts: Sequence[RecordedFact], spans: Sequence[Span]) -> None:
    order = facts[0].order_id
    own = [span for span in spans if span.context.trace_id == trace_id(order)]
    expected = {
        span_id(fact.fact_id): None
        if fact.name == ACCEPTED
        else root(order).span_id
        if fact.cause is None
        else span_id(fact.cause)
        for fact in facts
        if fact.of_order
    }
    said: list[Span | SpanEvent] = [*own, *(event for span in own for event in span.events)]
    created = [of.attributes["saga.fact.id"] for of in said]

    assert tree(own) == expected
    assert len({span.context for span in spans}) == len(spans), "twins"
    assert sorted(map(str, created)) == sorted(fact.fact_id for fact in facts), "each fact once, also of a balance"
    assert [span for span in own if span.start_ns > span.end_ns] == []
    assert {span.name for span in spans if span not in own} <= {"deadline"}


ends: Counter[str] = Counter()


@REPEATABLE
@given(PLANS)
def test_the_spans_of_any_order_are_its_facts_as_a_tree(plan: Plan) -> None:
    chance = random.Random(len(plan.steps))
    for order, facts in facts_of(run(plan)).items():
        spans = order_spans(facts)
        shuffled = [*facts, *(fact._replace(sequence=fact.sequence + 1_000) for fact in facts)]
        chance.shuffle(shuffled)

        assert_is_the_tree_of(facts, spans)
        assert sorted(order_spans(shuffled), key=str) == sorted(spans, key=str)
        (top,) = [span for span in spans if span.context == root(order)]
        ends[str(top.attributes.get("saga.order.reason", top.attributes["saga.order.end"]))] += 1


def test_every_end_was_among_them() -> None:
    assert {end for end, count in ends.items() if count >= ENOUGH} >= {"confirmed", *REASONS}


class Traced(World):
    """A world whose services make spans of what they record: of each command on its own, as soon as it is recorded."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.wishes, begun(plan).begin)
        self.spans: list[Span] = []

    def _decide(self, service: Service, commands: Sequence[Command]) -> None:
        for command in commands:
            before = len(self.said)
            super()._decide(service, [command])
            self.spans += work_spans([*recorded_facts(self.said, before)], self._heard(command.cause))

    def _heard(self, cause: str | None) -> HeardMessage | None:
        for sequence, said in enumerate(self.said, 1):
            if said.fact_id == cause:
                return HeardMessage(said.name, said.order_id, cause, sequence, sequence * 1_000, "")
        return None


@REPEATABLE
@given(PLANS)
def test_the_live_spans_of_any_order_are_those_of_its_history(plan: Plan) -> None:
    """What is heard again records nothing, and makes no span. An order that is open has no root yet."""
    world = Traced(plan)
    play(plan, world)

    of_history = [
        span
        for facts in facts_of(world).values()
        for span in order_spans(facts)
        if span.attributes.get("saga.order.end") != "pending"
    ]

    assert sorted(world.spans, key=str) == sorted(of_history, key=str)


# Single spans ---------------------------------------------------------------------------------------------------------

CAUSE_OF_CANCEL: Final = HeardMessage("point.use.failed", ORDER_ID, CAUSE, 7, 5, "order-hears-point-use-failed")


def recorded(fact: Fact, its_id: str) -> RecordedFact:
    found = recorded_fact(fact, its_id)
    assert found is not None
    return found


def test_a_fact_of_no_order_has_no_span() -> None:
    assert recorded_fact(product_registered(), "product-mug@1") is None


def test_a_refusal_is_no_error_and_says_its_reason() -> None:
    canceled = recorded(order_canceled("points-insufficient"), f"order-{ORDER_ID}@2")

    span, top = work_spans([canceled], CAUSE_OF_CANCEL)

    assert (span.error, top.error) == (None, None)
    assert span.attributes["saga.reason"] == top.attributes["saga.order.reason"] == "points-insufficient"
    assert (top.name, top.parent, top.attributes["saga.order.end"]) == ("order", None, "canceled")


def test_a_step_says_what_it_heard_where_in_the_words_of_opentelemetry() -> None:
    canceled = recorded(order_canceled("points-insufficient"), f"order-{ORDER_ID}@2")

    span, _ = work_spans([canceled], CAUSE_OF_CANCEL, end_ns=canceled.at_ns + 1)

    assert (span.name, span.kind, span.service) == ("process point.use.failed", SpanKind.CONSUMER, "order")
    assert (span.start_ns, span.end_ns) == (5, canceled.at_ns + 1)
    assert span.parent == span_id(CAUSE)
    assert span.links == (SpanContext(trace_id(ORDER_ID), span_id(CAUSE)),)
    assert span.attributes == {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": f"point.use.failed.{ORDER_ID}",
        "messaging.destination.template": "point.use.failed.{order_id}",
        "messaging.message.id": CAUSE,
        "messaging.message.conversation_id": ORDER_ID,
        "messaging.consumer.group.name": "order-hears-point-use-failed",
        "saga.stream.seq": 7,
        "saga.order.id": ORDER_ID,
        "saga.fact": "order.canceled",
        "saga.fact.id": f"order-{ORDER_ID}@2",
        "saga.cause": CAUSE,
        "saga.reason": "points-insufficient",
    }


def test_a_cancel_at_the_deadline_links_to_its_timer_and_back() -> None:
    fact = recorded(order_canceled("deadline-exceeded", cause=f"order-{ORDER_ID}@1"), f"order-{ORDER_ID}@2")

    span, timer, top = work_spans([fact], None)

    assert (span.name, span.attributes["saga.trigger"], span.parent) == (
        "expire order",
        "deadline",
        top.context.span_id,
    )
    assert span.links == (timer.context,)
    assert timer.links == (span.context,)
    assert timer.context.trace_id not in (0, trace_id(ORDER_ID))


def test_a_cancel_by_the_customer_links_to_the_request_and_leaves_the_first_end_alone() -> None:
    request = SpanContext(5, 6)
    fact = recorded(order_canceled("customer-canceled", cause=None), f"order-{ORDER_ID}@3")

    (span,) = work_spans([fact], None, trigger=Trigger("customer", request))

    assert (span.name, span.attributes["saga.trigger"], span.links) == ("cancel order", "customer", (request,))
    assert span.parent == root(ORDER_ID).span_id


def test_the_root_links_to_the_request_that_placed_the_order() -> None:
    request = SpanContext(5, 6)
    fact = recorded(order_confirmed(), f"order-{ORDER_ID}@2")

    _, top = work_spans([fact], None, placed_by=request)

    assert top.links == (request,)
    assert top.start_ns == fact.placed_ns
    assert top.attributes == {
        "saga.order.id": ORDER_ID,
        "saga.fact": "order.created.pending",
        "saga.fact.id": f"order-{ORDER_ID}@1",
        "saga.order.end": "confirmed",
    }


def test_an_order_that_has_not_ended_says_so() -> None:
    created, reserved = (
        recorded(order_created(), f"order-{ORDER_ID}@1"),
        recorded(product_reserved(), "reservation-o@1"),
    )

    (top,) = [span for span in order_spans([created, reserved]) if span.name == "order"]

    assert top.attributes["saga.order.end"] == "pending"
    assert top.end_ns == max(created.at_ns, reserved.at_ns)


def test_a_fact_whose_cause_is_not_there_still_names_it() -> None:
    (span, _) = sorted(
        order_spans([recorded(product_reserved(), "reservation-o@1")]), key=lambda one: one.name, reverse=True
    )

    assert (span.name, span.parent) == ("process", span_id(CAUSE))
    assert span.attributes["messaging.message.id"] == CAUSE
    assert "messaging.destination.name" not in span.attributes


def test_a_clock_that_lags_gives_no_span_that_ends_before_it_begins() -> None:
    fact = recorded(product_reserved(), "reservation-o@1")

    (span,) = work_spans([fact], CAUSE_OF_CANCEL._replace(stored_ns=fact.at_ns + 9))

    assert span.start_ns == span.end_ns == fact.at_ns


def test_a_dead_letter_is_an_error_with_an_id_for_each_attempt() -> None:
    first, again = (dead_letter_span(CAUSE_OF_CANCEL, "ValueError", attempts, 5, 9) for attempts in (4, 5))

    assert (first.error, first.parent, first.service) == ("ValueError", span_id(CAUSE), "order")
    assert [(event.name, event.attributes) for event in first.events] == [("saga.parked", {"error.type": "ValueError"})]
    assert first.attributes["saga.attempt"] == 4
    assert first.context.span_id != again.context.span_id


def test_no_facts_no_spans() -> None:
    assert order_spans([]) == []
    assert work_spans([], CAUSE_OF_CANCEL) == []
