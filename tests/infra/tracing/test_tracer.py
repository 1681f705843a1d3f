"""Live spans, as an exporter in memory gets them: the tree of facts for every end, and what comes again is no twin."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, cast

import pytest
from hypothesis import given
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contracts import REASONS, Line
from contracts.spans import Span, SpanContext, order_spans, root, span_id, trace_id
from contracts.wire import encode
from infra.core.decider import Command
from infra.core.messages import Delivery, StreamPosition
from infra.core.unit_of_work import Answer, Delivered, Requested, Work
from infra.request_span import Caller, RequestSpan
from infra.store.records import Record
from infra.tracing.otel import SpanSender
from infra.tracing.otlp_json import as_otlp
from infra.tracing.tracer import Tracer
from order_svc.domain import Cancel, Expire, Place
from tests.contracts.test_spans import ENOUGH, facts_of, recorded
from tests.domain.plan import Plan, begun, play
from tests.domain.test_any_order import PLANS, REPEATABLE
from tests.domain.world import SECOND, Service, Wish, World
from tests.examples import CAUSE, NOW, ORDER_ID, product_reserved
from tests.infra.purse import Acknowledgements

WISH: Final = Wish("one", (Line("bread", 1),), points=0, coupon_id=None, patience=90 * SECOND)
CLIENT: Final = Caller(SpanContext(0xC11E27, 0x5BA2), is_recorded=True)


class Traced(World):
    """A world whose services trace what they record, as a writer that settles has them do it."""

    def __init__(self, plan: Plan, tracer: Tracer, requests: dict[type[Command], RequestSpan] | None = None) -> None:
        super().__init__(plan.wishes, begun(plan).begin)
        self.tracer = tracer
        self.requests = requests or {}
        """The request that each command of a client is sent by."""

    def _decide(self, service: Service, commands: Sequence[Command]) -> None:
        for command in commands:
            before = len(self.said)
            super()._decide(service, [command])
            new = self.said[before:]
            outcome = [said.fact for said in new]
            self.tracer.recorded(
                [(command, self._source(command))], [outcome], service.log[len(service.log) - len(new) :]
            )

    def _source(self, command: Command) -> Work:
        delivery = None if isinstance(command, Place | Cancel | Expire) else self.delivery(command.cause)
        if delivery is not None:
            return Delivered(delivery, Acknowledgements())
        return Requested(command, cast(asyncio.Future[Answer], None), None, self.requests.get(type(command)))

    def delivery(self, cause: str | None) -> Delivery | None:
        for sequence, said in enumerate(self.said, 1):
            if said.fact_id == cause:
                subject = f"{said.name}.{said.order_id}"
                return Delivery(cause, encode(said.fact), "", StreamPosition(sequence, sequence), subject, b"", 1)
        return None


class Traces:
    """A sender with an exporter in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.sender = SpanSender("order", self.exporter)
        self.made: list[Span] = []

    def send(self, span: Span) -> None:
        self.made.append(span)
        self.sender.send(span)

    def exported(self) -> tuple[ReadableSpan, ...]:
        self.sender.flush()
        return self.exporter.get_finished_spans()

    def tracer(self, ratio: float = 1.0) -> Tracer:
        return Tracer("order", ratio, self.send, lambda: NOW)


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.sender.close()


Tree = set[tuple[int, int, int | None, str]]


def tree(spans: Sequence[ReadableSpan]) -> Tree:
    found = [
        (span.context.trace_id, span.context.span_id, span.parent and span.parent.span_id, span.name)
        for span in spans
        if span.context is not None
    ]
    assert len(set(found)) == len(found), "twins"
    return set(found)


def tree_of_facts(world: World) -> Tree:
    """As history has it; an order that is open has no root yet."""
    return {
        (*span.context, span.parent, span.name)
        for facts in facts_of(world).values()
        for span in order_spans(facts)
        if span.attributes.get("saga.order.end") != "pending"
    }


ends: Counter[str] = Counter()


@REPEATABLE
@given(PLANS)
def test_the_exported_tree_is_the_tree_of_facts(plan: Plan) -> None:
    """Whatever is delivered again, out of order, or after a crash before or after the commit: PLANS do all that."""
    traces = Traces()
    try:
        world = Traced(plan, traces.tracer())
        play(plan, world)
        exported = traces.exported()

        assert tree(exported) == tree_of_facts(world)
        world.deliver_everything_again()
        assert traces.exported() == exported
    finally:
        traces.sender.close()
    for span in exported:
        if span.name == "order" and span.attributes is not None:
            ends[str(span.attributes.get("saga.order.reason", span.attributes["saga.order.end"]))] += 1


def test_every_end_was_exported() -> None:
    assert {end for end, count in ends.items() if count >= ENOUGH} >= {"confirmed", *REASONS}


def test_the_library_gets_all_that_a_span_has(traces: Traces) -> None:
    heard = Delivery(CAUSE, b"", "", StreamPosition(7, 5), f"product.reserved.{ORDER_ID}", b"", 3)

    traces.tracer().dead_letter(heard, ValueError("no"), 4)

    (made,), (exported,) = traces.made, traces.exported()
    assert exported.name == made.name == "process product.reserved"
    assert dict(exported.attributes or {}) == made.attributes
    assert [(event.name, dict(event.attributes or {})) for event in exported.events] == [
        (event.name, event.attributes) for event in made.events
    ]
    assert [(link.context.trace_id, link.context.span_id) for link in exported.links] == [*made.links]
    assert (exported.start_time, exported.end_time) == (made.start_ns, made.end_ns)
    assert (exported.status.is_ok, exported.status.description) == (False, "ValueError")
    assert exported.resource.attributes["service.name"] == "order_svc"
    assert exported.instrumentation_scope is not None
    assert exported.instrumentation_scope.schema_url == exported.resource.schema_url
    assert exported.context is not None
    assert exported.context.trace_flags.sampled


# Which orders -------------------------------------------------------------------------------------------------------


def test_the_order_alone_decides_whether_it_is_traced(traces: Traces) -> None:
    none, all_of_them = traces.tracer(0), traces.tracer(1)
    some = [traces.tracer(0.5), traces.tracer(0.5)]

    assert not none.is_traced(ORDER_ID)
    assert all_of_them.is_traced(ORDER_ID)
    assert len({one.is_traced(ORDER_ID) for one in some}) == 1


def test_nothing_is_made_of_an_order_outside_the_share(traces: Traces) -> None:
    tracer = traces.tracer(0)
    request = RequestSpan(1, CLIENT)
    request.is_about(ORDER_ID, apart=False)

    tracer.answered(request, "POST", "/orders", 200)
    tracer.dead_letter(Delivery(CAUSE, b"", "", StreamPosition(7, 5), f"a.{ORDER_ID}"), ValueError("no"), 4)

    assert traces.made == []


# Requests, operators, dead letters ----------------------------------------------------------------------------------


def one_order(
    traces: Traces, caller: Caller | None, *, cancel: bool = False
) -> tuple[str, dict[str, Span], RequestSpan]:
    """Place one order that is confirmed, by a request of this caller; return its id, its spans by name, the request."""
    plan = Plan({"bread": 9, "cheese": 9, "wine": 9}, {"one": 99, "two": 99}, [WISH], [], newest_first=False)
    requests: dict[type[Command], RequestSpan] = {}
    for kind in (Place, Cancel):
        requests[kind] = RequestSpan(1, caller)
    tracer = traces.tracer()
    world = Traced(plan, tracer, requests)
    order_id = world.order_ids[0]
    requests[Place].is_about(order_id, apart=False)
    requests[Cancel].is_about(order_id, apart=True)
    world.place(0)
    world.become_quiet(newest_first=False)
    if cancel:
        world.cancel(0)
        world.become_quiet(newest_first=False)
    tracer.answered(requests[Place], "POST", "/orders", 200)
    tracer.answered(requests[Cancel], "POST", "/orders/{order_id:str}/cancel", 200)
    return order_id, {span.name: span for span in traces.made}, requests[Cancel if cancel else Place]


def test_a_request_of_a_traced_client_stays_in_its_trace_and_the_order_links_to_it(traces: Traces) -> None:
    order_id, spans, request = one_order(traces, CLIENT)

    posted = spans["POST /orders"]
    assert (posted.context.trace_id, posted.parent) == CLIENT.span
    assert posted.links == (root(order_id),)
    assert spans["order"].links == (posted.context,) == (request.span,)


def test_a_request_without_a_trace_is_in_that_of_the_order(traces: Traces) -> None:
    order_id, spans, _ = one_order(traces, None)

    posted = spans["POST /orders"]
    assert (posted.context.trace_id, posted.parent) == root(order_id)
    assert posted.links == spans["order"].links == ()


@pytest.mark.parametrize("caller", [CLIENT, None])
def test_a_parent_that_a_request_or_a_message_named_is_remote(traces: Traces, caller: Caller | None) -> None:
    one_order(traces, caller)

    remote = {span.name: span.parent.is_remote for span in traces.exported() if span.parent is not None}
    assert remote == {"POST /orders": caller is not None, **dict.fromkeys(remote.keys() - {"POST /orders"}, True)}
    assert len(remote) > 1
    links = {span.name: [link.context.is_remote for link in span.links] for span in traces.exported()}
    for told in json.loads(as_otlp(traces.made))["resourceSpans"]:
        for span in told["scopeSpans"][0]["spans"]:
            assert span["flags"] == (0x301 if remote.get(span["name"]) else 0x101)
            assert [link["flags"] for link in span["links"]] == [0x301 if one else 0x101 for one in links[span["name"]]]


def test_a_client_that_records_nothing_is_not_linked(traces: Traces) -> None:
    _, spans, _ = one_order(traces, CLIENT._replace(is_recorded=False))

    assert "POST /orders" not in spans
    assert spans["order"].links == ()


def test_a_cancel_links_to_the_request_of_the_customer(traces: Traces) -> None:
    order_id, spans, request = one_order(traces, None, cancel=True)

    assert spans["cancel order"].links == (request.span,)
    posted = spans["POST /orders/{order_id:str}/cancel"]
    assert posted.context == request.span
    assert posted.context.trace_id != trace_id(order_id)
    assert posted.links == (root(order_id),)
    assert spans["cancel order"].attributes["saga.trigger"] == "customer"
    assert spans["order"].attributes["saga.order.end"] == "confirmed"


def test_a_redriven_message_gives_the_span_that_it_would_have_given_and_links_to_the_operator(traces: Traces) -> None:
    delivery = Delivery("reservation-o@1", b"", "", StreamPosition(7, 5), f"point.used.{ORDER_ID}", b"", number=0)
    operator = RequestSpan(1, None)
    operator.is_about(ORDER_ID, apart=True)
    source = Requested(cast(Command, None), cast(asyncio.Future[Answer], None), delivery, operator)
    records = [Record("pointuse-o", 1, "point.used", b"")]

    traces.tracer().recorded([(cast(Command, None), source)], [[product_reserved()]], records)

    (span,) = traces.made
    assert span.context == SpanContext(trace_id(ORDER_ID), span_id("pointuse-o@1"))
    assert (span.name, span.attributes["saga.trigger"]) == ("process point.used", "operator")
    assert operator.span in span.links


def test_a_delivery_that_waited_behind_a_redrive_does_not_name_the_operator(traces: Traces) -> None:
    """Work of one key runs in the task, and so with the request, of the first in its line."""
    delivery = Delivery("reservation-o@1", b"", "", StreamPosition(7, 5), f"point.used.{ORDER_ID}", b"", number=12)
    operator = RequestSpan(1, None)
    operator.is_about(ORDER_ID, apart=True)
    source = Requested(cast(Command, None), cast(asyncio.Future[Answer], None), delivery, operator)
    records = [Record("pointuse-o", 1, "point.used", b"")]

    traces.tracer().recorded([(cast(Command, None), source)], [[product_reserved()]], records)

    (span,) = traces.made
    assert "saga.trigger" not in span.attributes


def test_what_failed_and_what_recorded_nothing_has_no_span(traces: Traces) -> None:
    source = Requested(cast(Command, None), cast(asyncio.Future[Answer], None))
    command = cast(Command, None)

    traces.tracer().recorded([(command, source), (command, source)], [ValueError("refused"), []], [])

    assert traces.made == []


def test_a_bug_in_what_makes_spans_costs_spans_alone(traces: Traces) -> None:
    def send(_: Span) -> None:
        raise ZeroDivisionError("a bug")

    tracer = Tracer("order", 1, send, lambda: NOW)

    tracer.dead_letter(Delivery(CAUSE, b"", "", StreamPosition(7, 5), f"a.{ORDER_ID}"), ValueError("no"), 4)


# Sending ------------------------------------------------------------------------------------------------------------


class Stuck(SpanExporter):
    """Takes nothing before it is let go."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.let_go = threading.Event()
        self.result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.let_go.wait()
        return self.result

    def shutdown(self) -> None:
        self.let_go.set()


def a_span() -> Span:
    return order_spans([recorded(product_reserved(), "reservation-o@1")])[0]


def test_a_full_queue_drops_and_counts_and_nobody_waits() -> None:
    stuck = Stuck()
    sender = SpanSender("order", stuck, queue=4)
    span = a_span()

    for _ in range(10):
        sender.send(span)

    assert (sender.dropped, sender.sent, sender.failed) == (6, 0, 0)
    stuck.let_go.set()
    sender.flush()
    assert (sender.dropped, sender.sent, sender.failed) == (6, 4, 0)
    sender.send(span)
    sender.flush()
    assert sender.sent == 5
    sender.close()


@pytest.mark.parametrize("error", [None, OSError("no route")])
def test_what_cannot_be_sent_is_counted(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()

    def export(_: object) -> SpanExportResult:
        if error is not None:
            raise error
        return SpanExportResult.FAILURE

    monkeypatch.setattr(exporter, "export", export)
    sender = SpanSender("order", exporter)

    sender.send(a_span())
    sender.flush()

    assert (sender.sent, sender.failed, sender.dropped) == (0, 1, 0)
    sender.close()


def test_the_end_of_the_process_does_not_wait_for_a_collector_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.tracing.otel.CLOSE_S", 0.05)
    stuck = Stuck()
    sender = SpanSender("order", stuck)
    sender.send(a_span())

    sender.close()  # returns: the library alone would wait until the exporter does

    assert stuck.let_go.is_set()
