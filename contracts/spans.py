"""Makes the spans of orders (OpenTelemetry), most of them from facts. Pure: no I/O, no clock, nothing is stored.

The id of an order's trace is the order's id, and the id of a fact's span is a hash of the fact's id. So the live spans
of all services join without any header, and those made years later from history have the same ids. The names of
attributes are OpenTelemetry's (SCHEMA_URL); our own begin with `saga.`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import cache
from hashlib import sha256
from typing import Final, NamedTuple

from contracts.fact import BY_CUSTOMER, WITHDRAWALS, Fact, SagaFact
from contracts.order import OrderCanceled, OrderConfirmed, OrderCreatedPending
from contracts.wire import COMPENSATIONS, FACTS, NAMES, fact_id, said_by

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The version of OpenTelemetry's semantic conventions that the names of attributes are from."""
SCOPE: Final = "saga"
"""The instrumentation scope of all spans."""

ACCEPTED: Final = NAMES[OrderCreatedPending]
CONFIRMED: Final = NAMES[OrderConfirmed]
CANCELED: Final = NAMES[OrderCanceled]
ORDER_SERVICE: Final = said_by(ACCEPTED)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_HEX: Final = re.compile("[0-9a-f]{32}")
_LOW: Final = 2**64 - 1

Attributes = Mapping[str, str | int | bool]


class SpanKind(IntEnum):
    """A span's kind, with the numbers that OTLP has for them."""

    INTERNAL = 1
    SERVER = 2
    CONSUMER = 5


class SpanContext(NamedTuple):
    """Where a span is: its trace and its own id."""

    trace_id: int
    span_id: int


class SpanEvent(NamedTuple):
    """Something that happened within a span, at an instant in nanoseconds since 1970 (UTC)."""

    name: str
    at_ns: int
    attributes: Attributes


class Span(NamedTuple):
    """One span. Times in nanoseconds since 1970 (UTC); `service` is the one that did the work, without `_svc`.

    `parent` is the id of its parent in the same trace, None for a root; `has_remote_parent`: a request or a message
    named it. `error` is the type of a technical failure; an order that is refused has none.
    """

    context: SpanContext
    parent: int | None
    name: str
    kind: SpanKind
    service: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanContext, ...] = ()
    error: str | None = None
    has_remote_parent: bool = False

    def is_remote(self, at: SpanContext) -> bool:
        """Return whether `at`, the context of the parent or of a link, is that of a parent with `has_remote_parent`."""
        return self.has_remote_parent and at == (self.context.trace_id, self.parent)


class RecordedFact(NamedTuple):
    """As much of a recorded fact as spans need. `at_ns`: when it was decided; `placed_ns`: when its order was placed.

    Both are in nanoseconds since 1970 (UTC). `key` is the value of the fact's key field, and `of_order` whether that is
    the order's id. Only a fact `of_order` can be heard by others, has a span, and has `placed_ns` (else 0). `sequence`
    and `stored_ns` are the fact's place in EVENTS; 0 while that is not known.
    """

    fact_id: str
    name: str
    key: str
    at_ns: int
    cause: str | None
    order_id: str
    of_order: bool
    placed_ns: int = 0
    reason: str | None = None
    sequence: int = 0
    stored_ns: int = 0


class HeardMessage(NamedTuple):
    """A message that a consumer heard: its fact, the last token of its subject, and where and when it was stored.

    `name` and `key` are empty if only the id is known; `consumer` is empty if its name is not known. `sequence` in
    EVENTS and `stored_ns` (nanoseconds since 1970, UTC) are 0 if they are not known.
    """

    name: str
    key: str
    fact_id: str
    sequence: int
    stored_ns: int
    consumer: str


class Trigger(NamedTuple):
    """What led to a fact besides what was heard: `saga.trigger` (deadline, customer, operator), and its span if known.

    The fact's span links to the trigger's span, which is in another trace unless a client sent its request in the
    order's trace.
    """

    name: str
    span: SpanContext | None = None


# Identity -------------------------------------------------------------------------------------------------------------


def trace_id(order_id: str) -> int:
    """Return the id of an order's trace: the number that the 32 hexadecimal digits of the order's id are.

    For an order's id of another form, which order_svc never makes, it is a hash. It is never 0: OpenTelemetry takes 0
    for no trace.
    """
    if _HEX.fullmatch(order_id) and (number := int(order_id, 16)):
        return number
    return int.from_bytes(sha256(order_id.encode()).digest()[:16]) or 1


def span_id(about: str) -> int:
    """Return the id of the span about this fact, given by its id `<stream>@<version>`: a hash, never 0."""
    return int.from_bytes(sha256(about.encode()).digest()[:8]) or 1


def root(order_id: str) -> SpanContext:
    """Return the context of the root span of an order's trace. It is the span of the fact `order-<order_id>@1`."""
    return SpanContext(trace_id(order_id), span_id(fact_id(f"{ORDER_SERVICE}-{order_id}", 1)))


def timer_span(fact: str) -> SpanContext:
    """Return the context of the span of the timer that led to the fact with this id. It has a trace of its own."""
    digest = sha256(f"timer of {fact}".encode()).digest()
    return SpanContext(int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1)


def sample(ratio: float) -> Callable[[str], bool]:
    """Return a function that takes an order's id and returns whether to trace the order: a share `ratio` (0 to 1) is.

    Only the id decides, by the low 64 bits of its trace's id, as OpenTelemetry's TraceIdRatioBased does. So all
    services decide alike.
    """
    bound = round(ratio * 2**64)
    return lambda order_id: trace_id(order_id) & _LOW < bound


def nanoseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND * 1_000


# Spans ----------------------------------------------------------------------------------------------------------------


def order_of(fact: Fact) -> str | None:
    """Return the id of the order that a fact is about; None if it is about no order."""
    return getattr(fact, "order_id", None)


def recorded_fact(fact: Fact, its_id: str, sequence: int = 0, stored_ns: int = 0) -> RecordedFact | None:
    """Return what spans need of a fact; None if it is about no order.

    `its_id` is the fact's id; `sequence` and `stored_ns` as in RecordedFact.
    """
    order_id = order_of(fact)
    if order_id is None:
        return None
    of_order = isinstance(fact, SagaFact)
    return RecordedFact(
        its_id,
        NAMES[type(fact)],
        getattr(fact, fact.key_field),
        nanoseconds(fact.at),
        fact.cause,
        order_id,
        of_order,
        nanoseconds(fact.order.placed_at) if isinstance(fact, SagaFact) else 0,
        getattr(fact, "reason", None),
        sequence,
        stored_ns,
    )


def work_spans(
    facts: Sequence[RecordedFact],
    heard: HeardMessage | None,
    end_ns: int | None = None,
    trigger: Trigger | None = None,
    placed_by: SpanContext | None = None,
) -> list[Span]:
    """Return the spans of one piece of work, which recorded these facts together.

    There is one span for each fact `of_order`; the other facts, such as those of a balance, are events of the first
    span. The first end also gives the root, which links to `placed_by`, the request that placed the order. A cancel at
    the deadline also gives the timer's span. The acceptance gives none: its span is the root.

    `heard`: the message that led to the work; None: no message. A withdrawal's span leaves `heard` out. `trigger`: what
    else led to the work; None: what a cancel's reason says. `end_ns` is when the facts were durable; None: each span
    ends when its fact was decided.
    """
    main = [fact for fact in facts if fact.of_order and not is_first(fact)]
    spans = []
    for fact in main:
        beside = [other for other in facts if not other.of_order] if fact is main[0] else []
        own = _trigger(fact)  # a deadline's cancel names the acceptance as its cause, but nobody heard that
        why = trigger or own
        spans.append(_fact_span(fact, beside, None if own else heard, end_ns or fact.at_ns, why))
        if why is not None and why.name == "deadline" and why.span is not None:
            spans.append(_timer(fact, why.span))
        if is_first_end(fact):
            spans.append(root_span(fact, end_ns or fact.at_ns, placed_by))
    return spans


def _trigger(fact: RecordedFact) -> Trigger | None:
    """Return what led to this cancel: the customer or the deadline. None after a refusal, and for any other fact."""
    if fact.name != CANCELED or fact.reason not in WITHDRAWALS:
        return None
    return Trigger("customer") if fact.reason in BY_CUSTOMER else Trigger("deadline", timer_span(fact.fact_id))


def _fact_span(
    fact: RecordedFact, beside: Sequence[RecordedFact], heard: HeardMessage | None, end_ns: int, trigger: Trigger | None
) -> Span:
    trace = trace_id(fact.order_id)
    parent = root(fact.order_id).span_id if fact.cause is None else span_id(fact.cause)
    attributes: dict[str, str | int | bool] = {
        "saga.order.id": fact.order_id,
        "saga.fact": fact.name,
        "saga.fact.id": fact.fact_id,
    }
    if fact.cause is not None:
        attributes["saga.cause"] = fact.cause
    if fact.name in COMPENSATIONS:
        attributes["saga.compensation"] = True
    if fact.reason is not None:
        attributes["saga.reason"] = fact.reason
    if trigger is not None:
        attributes["saga.trigger"] = trigger.name
    links = () if trigger is None or trigger.span is None else (trigger.span,)
    if heard is None:
        what = {"deadline": "expire order", "customer": "cancel order"}.get(trigger.name if trigger else "")
        name, kind, start_ns = what or f"create {fact.name}", SpanKind.INTERNAL, fact.at_ns
    else:
        name, kind, start_ns = f"process {heard.name}".rstrip(), SpanKind.CONSUMER, heard.stored_ns or fact.at_ns
        attributes |= messaging(heard, fact.order_id)
        links = (SpanContext(trace, parent), *links)
    events = tuple(SpanEvent(f"create {one.name}", one.at_ns, {"saga.fact.id": one.fact_id}) for one in beside)
    return Span(
        SpanContext(trace, span_id(fact.fact_id)),
        parent,
        name,
        kind,
        said_by(fact.name),
        min(start_ns, end_ns),
        end_ns,
        attributes,
        events,
        links,
        has_remote_parent=heard is not None,
    )


def messaging(heard: HeardMessage, conversation: str) -> dict[str, str | int | bool]:
    """Return the attributes of the processing of a message: OpenTelemetry's and `saga.stream.seq`, as far as known.

    `conversation` is the order's id.
    """
    found: dict[str, str | int | bool] = {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": heard.fact_id,
        "messaging.message.conversation_id": conversation,
    }
    if heard.name:
        found["messaging.destination.name"] = f"{heard.name}.{heard.key}"
        found["messaging.destination.template"] = _template(heard.name)
    if heard.consumer:
        found["messaging.consumer.group.name"] = heard.consumer
    if heard.sequence:
        found["saga.stream.seq"] = heard.sequence
    return found


@cache
def _template(name: str) -> str:
    """Return the subject of a fact with this name as docs/asyncapi.json has it: with a placeholder for its key.

    The placeholder is `{order_id}` for a name that this code does not know.
    """
    return f"{name}.{{{FACTS[name].key_field if name in FACTS else SagaFact.key_field}}}"


def _timer(fact: RecordedFact, at: SpanContext) -> Span:
    """Return the span of the timer that led to `fact`, a cancel at the deadline. The span takes no time.

    `at`: the span's own context.
    """
    attributes = {"saga.order.id": fact.order_id}
    links = (SpanContext(trace_id(fact.order_id), span_id(fact.fact_id)),)
    return Span(at, None, "deadline", SpanKind.INTERNAL, ORDER_SERVICE, fact.at_ns, fact.at_ns, attributes, (), links)


def request_span(
    at: SpanContext,
    parent: int | None,
    *,
    service: str,
    what: str,
    status: int,
    key: str,
    start_ns: int,
    end_ns: int,
    has_caller: bool,
) -> Span:
    """Return the span of a request of a client or operator about the order `key`, which was answered with `status`.

    `at`: the span's own context. `what`: the request's method and its route, with a blank between. `has_caller`: the
    client named the `parent`. A span in another trace than the order's links to the order's root. Only a `status` from
    500 on is an error.
    """
    method, _, route = what.partition(" ")
    attributes: dict[str, str | int | bool] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "saga.order.id": key,
    }
    error = str(status) if status >= 500 else None
    if error is not None:
        attributes["error.type"] = error
    links = () if at.trace_id == trace_id(key) else (root(key),)
    start_ns = min(start_ns, end_ns)
    return Span(
        at,
        parent,
        what,
        SpanKind.SERVER,
        service,
        start_ns,
        end_ns,
        attributes,
        (),
        links,
        error,
        has_remote_parent=has_caller,
    )


def is_first(fact: RecordedFact) -> bool:
    """Return whether this fact is the acceptance of its order."""
    return fact.name == ACCEPTED


def is_first_end(fact: RecordedFact) -> bool:
    """Return whether this fact is the first end of its order: a cancel may follow a confirmation."""
    return fact.name in (CONFIRMED, CANCELED) and fact.fact_id.endswith("@2")


def root_span(fact: RecordedFact, end_ns: int, placed_by: SpanContext | None = None, *, pending: bool = False) -> Span:
    """Return the root span of an order's trace, from when the order was placed to `end_ns`.

    `fact` is the order's first end; with `pending`, which says that the order has not ended, any of its facts that is
    `of_order`. `placed_by`: the span of the request that placed the order, to link to; None: no link.
    """
    end = "pending" if pending else "confirmed" if fact.name == CONFIRMED else "canceled"
    attributes = {
        "saga.order.id": fact.order_id,
        "saga.fact": ACCEPTED,
        "saga.fact.id": fact_id(f"{ORDER_SERVICE}-{fact.order_id}", 1),
        "saga.order.end": end,
    }
    if not pending and fact.reason is not None:
        attributes["saga.order.reason"] = fact.reason
    links = () if placed_by is None else (placed_by,)
    start_ns, at = min(fact.placed_ns, end_ns), root(fact.order_id)
    return Span(at, None, "order", SpanKind.INTERNAL, ORDER_SERVICE, start_ns, end_ns, attributes, (), links)


def dead_letter_span(heard: HeardMessage, error: str, attempts: int, start_ns: int, end_ns: int) -> Span:
    """Return the span of a message that became a dead letter after so many attempts; `error` is the error's type.

    The work recorded no fact, so the span's id is a hash of the message's id, the consumer and the attempts. The last
    token of the message's subject is taken for the order's id.
    """
    order_id = heard.key
    at = SpanContext(trace_id(order_id), span_id(f"{heard.fact_id} at {heard.consumer} attempt {attempts}"))
    cause = span_id(heard.fact_id)
    attributes = {
        "saga.order.id": order_id,
        "saga.attempt": attempts,
        "error.type": error,
        **messaging(heard, order_id),
    }
    events = (SpanEvent("saga.parked", end_ns, {"error.type": error}),)
    links = (SpanContext(at.trace_id, cause),)
    name, service = f"process {heard.name}", heard.consumer.partition("-")[0]
    start_ns = min(start_ns, end_ns)
    return Span(
        at,
        cause,
        name,
        SpanKind.CONSUMER,
        service,
        start_ns,
        end_ns,
        attributes,
        events,
        links,
        error,
        has_remote_parent=True,
    )


def order_spans(
    facts: Iterable[RecordedFact], consumer_of: Callable[[str, str], str] = lambda _service, _fact: ""
) -> list[Span]:
    """Return the spans of one order from its facts, in any order and with any repeats.

    The spans have the ids of the live ones, and are in the order's trace; only the timer that canceled the order has a
    span in a trace of its own. A span ends when its fact was decided, because facts do not say when they were durable.
    Requests of clients and operators, and dead letters, have no spans here: they are no facts. `consumer_of(service,
    fact name)` returns the name of the consumer by which the service hears such facts; empty: not known. An order that
    has not ended has a root that ends with its last fact; without facts there are no spans.
    """
    by_id: dict[str, RecordedFact] = {}
    for fact in facts:
        by_id[fact.fact_id] = min(fact, by_id.get(fact.fact_id, fact), key=lambda one: one.sequence)
    work: defaultdict[tuple[str, str | None], list[RecordedFact]] = defaultdict(list)
    for fact in sorted(by_id.values(), key=lambda one: (one.sequence, one.fact_id)):
        work[said_by(fact.name), fact.cause].append(fact)
    spans: list[Span] = []
    for (service, cause), together in work.items():
        spans += work_spans(together, None if cause is None else _heard(cause, by_id.get(cause), service, consumer_of))
    own = [fact for fact in by_id.values() if fact.of_order]
    if own and not any(map(is_first_end, own)):
        spans.append(root_span(own[0], max(fact.at_ns for fact in by_id.values()), pending=True))
    return spans


def _heard(cause: str, fact: RecordedFact | None, service: str, consumer_of: Callable[[str, str], str]) -> HeardMessage:
    if fact is None:
        return HeardMessage("", "", cause, 0, 0, "")
    return HeardMessage(fact.name, fact.key, cause, fact.sequence, fact.stored_ns, consumer_of(service, fact.name))
