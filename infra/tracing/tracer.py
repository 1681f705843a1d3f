"""Makes the spans of what a service has recorded and answered. It runs after requests are answered, so none waits."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Final, ParamSpec

import structlog

from contracts.fact import Fact
from contracts.spans import (
    HeardMessage,
    RecordedFact,
    Span,
    SpanContext,
    Trigger,
    dead_letter_span,
    is_first,
    is_first_end,
    nanoseconds,
    order_of,
    recorded_fact,
    request_span,
    sample,
    trace_id,
    work_spans,
)
from contracts.wire import fact_id
from infra.broker.consumers import consumer_name
from infra.core.messages import Delivery
from infra.core.unit_of_work import Commands, Delivered, Outcome, Work
from infra.core.writer import Clock
from infra.request_span import RequestSpan
from infra.store.records import Record

MOST_PLACED: Final = 100_000
"""At most so many requests' spans are remembered until the root of their key's trace links to them; the oldest go."""


logger = structlog.get_logger()

_Arguments = ParamSpec("_Arguments")


def _harmless(make: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Wrap `make`, which makes spans: an error in it is logged, not raised, so session and request go on."""

    @functools.wraps(make)
    def wrapped(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        try:
            make(*args, **kwargs)
        except Exception as error:
            logger.error("a span cannot be made: this is a bug; nothing but the span is lost", exc_info=error)

    return wrapped


class Tracer:
    """Makes spans of recorded facts, dead letters and requests; `send` gets them.

    `ratio`, from 0 to 1, is the share of keys whose spans are made: the key alone decides.
    """

    def __init__(self, service: str, ratio: float, send: Callable[[Span], None], clock: Clock) -> None:
        self._service = service
        self.is_traced = sample(ratio)
        self._consumers: dict[str, str] = {}
        self._send = send
        self._clock = clock
        self._placed: dict[str, SpanContext] = {}
        """By key: the span of the client's trace that the root of the key's trace is to link to."""

    @_harmless
    def recorded(self, work: Commands, outcomes: Sequence[Outcome], records: Sequence[Record]) -> None:
        """Make the spans of a recorded batch; none of work that failed or has no new facts, or whose key is not traced.

        `outcomes`: the facts or the error of each piece of `work`. `records`: those of all these facts.
        """
        first = 0
        for (_, source), outcome in zip(work, outcomes, strict=True):
            if isinstance(outcome, Exception) or not outcome:
                continue
            key = order_of(outcome[-1])
            if key is not None and self.is_traced(key):
                pairs = zip(outcome, records[first : first + len(outcome)], strict=True)
                self._trace(key, _recorded_facts(pairs), source, nanoseconds(self._clock()))
            first += len(outcome)

    def _trace(self, key: str, facts: list[RecordedFact], source: Work, end_ns: int) -> None:
        delivery, request = source.delivery, None if isinstance(source, Delivered) else source.request
        asked = None if request is None else request.span
        trigger = None
        if delivery is not None:
            trigger = Trigger("operator", asked) if delivery.number == 0 else None  # of a dead letter
        elif asked is not None:
            trigger = Trigger("customer", asked)
            if asked.trace_id != trace_id(key) and any(map(is_first, facts)):
                self._remember(key, asked)
        placed_by = self._placed.pop(key, None) if any(map(is_first_end, facts)) else None
        heard = None if delivery is None else self._heard(delivery)
        for span in work_spans(facts, heard, end_ns, trigger, placed_by):
            self._send(span)

    def _remember(self, key: str, span: SpanContext) -> None:
        self._placed[key] = span
        if len(self._placed) > MOST_PLACED:
            del self._placed[next(iter(self._placed))]

    def _heard(self, delivery: Delivery) -> HeardMessage:
        name, _, key = delivery.subject.rpartition(".")
        sequence, stored_us = delivery.position
        consumer = self._consumers.get(name) or self._consumers.setdefault(name, consumer_name(self._service, name))
        return HeardMessage(name, key, delivery.fact_id, sequence, stored_us * 1_000, consumer)

    @_harmless
    def dead_letter(self, delivery: Delivery, error: Exception | None, attempts: int) -> None:
        """Make the span of a dead letter, if its key is traced: `error` ended the last of so many attempts.

        `error` None: the message was not tried, and gets no span.
        """
        heard = self._heard(delivery)
        if error is not None and self.is_traced(heard.key):
            now_ns = nanoseconds(self._clock())
            self._send(dead_letter_span(heard, type(error).__name__, attempts, heard.stored_ns, now_ns))

    @_harmless
    def answered(self, request: RequestSpan, method: str, route: str, status: int) -> None:
        """Make the span of an answered request, if it has a context for one (`span`) and its key is traced."""
        if request.span is not None and self.is_traced(request.key):
            span = request_span(
                request.span,
                request.parent,
                service=self._service,
                what=f"{method} {route}",
                status=status,
                key=request.key,
                start_ns=request.start_ns,
                end_ns=nanoseconds(self._clock()),
                has_caller=request.has_caller,
            )
            self._send(span)


def _recorded_facts(pairs: Iterable[tuple[Fact, Record]]) -> list[RecordedFact]:
    made = (recorded_fact(fact, fact_id(record.originator_id, record.originator_version)) for fact, record in pairs)
    return [fact for fact in made if fact is not None]
