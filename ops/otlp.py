"""`orders trace --otlp`: hand the traces of orders to OpenTelemetry, rebuilt from their facts in EVENTS.

They have the ids of the live spans; requests and dead letters are in no fact, so their spans are left out.
"""

import heapq
import os
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import rich_click as click

from contracts.fact import DECODE_ERRORS, Timestamp
from contracts.origin import ForeignMessage, origin
from contracts.spans import (
    CANCELED,
    CONFIRMED,
    RecordedFact,
    Span,
    is_first_end,
    nanoseconds,
    order_spans,
    trace_id,
)
from infra.addresses import is_http_address
from infra.broker.consumers import consumer_name
from infra.redaction import redacted
from infra.tracing import collector
from infra.tracing.start import check_installed
from ops import reading
from ops.cli import Instant
from ops.errors import Unreachable, Unusable

FROM_ENVIRONMENT: Final = collector.ENDPOINT
"""What `--otlp` without a value means."""
STANDARD_OUTPUT: Final = "-"
SLOW_SHARE: Final = 0.99
"""Slow is an order that took longer than this share of the orders that ended in the same time."""
MOST_SLOW: Final = 100
SPANS_A_REQUEST: Final = 512


class Since(Instant):
    """A parameter as Instant, which also takes how long ago the time is without a minus: `1h` as `-1h`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        ago = isinstance(value, str) and re.fullmatch("[0-9]+[smhd]", value.strip())
        return super().convert(f"-{value.strip()}" if ago else value, param, ctx)


class _Order(msgspec.Struct):
    placed_at: Timestamp


class _Body(msgspec.Struct):
    """The fields that spans need of any fact, also of one that only newer code knows.

    Every body that `ops.trace` takes for a fact can be decoded as this. So `reason` may be of any type; spans use it
    only if it is a text.
    """

    type: str
    at: Timestamp
    cause: str | None = None
    order_id: str | None = None
    order: _Order | None = None
    reason: Any = None


_body: Final = msgspec.json.Decoder(_Body)


def spans_of(messages: Iterable[reading.Read]) -> list[Span]:
    """Return the spans of the order whose messages these are; see `contracts.spans.order_spans`.

    Raises ForeignMessage, or one of DECODE_ERRORS, for a message that lacks what spans need.
    """
    return order_spans(map(_recorded, messages), consumer_name)


def _recorded(message: reading.Read) -> RecordedFact:
    body = _body.decode(message.body)
    return RecordedFact(
        origin(message.subject, message.fact_id, message.head, message.body).fact_id,
        body.type,
        message.subject.rpartition(".")[2],
        nanoseconds(body.at),
        body.cause,
        body.order_id or "",
        body.order is not None,
        0 if body.order is None else nanoseconds(body.order.placed_at),
        body.reason if isinstance(body.reason, str) else None,
        message.sequence,
        message.stored_ns,
    )


async def slow_orders(stream: reading.Stream, since: datetime, most: int = MOST_SLOW) -> tuple[list[str], int]:
    """Return the ids of the orders that took longest to their first end, slowest first, and how many orders ended.

    Counted are first ends that the broker stored at `since` or later; a repeated message counts again. Returned are the
    orders slower than SLOW_SHARE of all counted, at most `most`, and at least the slowest. Without an end: [] and 0.
    Raises ConsumerFailed, ArchiveDamaged, the client's errors.
    """
    taken = array("q")
    slowest: list[tuple[int, str]] = []
    async for chunk in reading.chunks(stream, [f"{name}.*" for name in (CONFIRMED, CANCELED)], first=since):
        for message in chunk:
            ended = _ended(message)
            if ended is not None:
                taken.append(ended[0])
                (heapq.heappush if len(slowest) < most else heapq.heappushpop)(slowest, ended)
    if not taken:
        return [], 0
    limit = sorted(taken)[int(len(taken) * SLOW_SHARE) - 1 if len(taken) > 1 else 0]
    found = sorted({ended for ended in slowest if ended[0] > limit or ended == max(slowest)}, reverse=True)
    return [order for _, order in found], len(taken)


def _ended(message: reading.Read) -> tuple[int, str] | None:
    """Return how many nanoseconds an order took from placed to its first end, and its id.

    None: the message is no first end of an order, or cannot be read.
    """
    try:
        fact = _recorded(message)
    except (ForeignMessage, *DECODE_ERRORS):
        return None
    return (fact.at_ns - fact.placed_ns, fact.order_id) if fact.of_order and is_first_end(fact) else None


def trace_of(order_id: str) -> str:
    """Return the id of the order's trace as tools show it: 32 hexadecimal digits."""
    return f"{trace_id(order_id):032x}"


# To OpenTelemetry -----------------------------------------------------------------------------------------------------


def endpoint(given: str, env: Mapping[str, str]) -> str | None:
    """Return the URL that spans go to; None: the variables of OpenTelemetry in the environment name it.

    `given` is the value of `--otlp`: a URL, to which OTLP's path is added if it has none; or FROM_ENVIRONMENT. Raises
    Unusable if `given` is neither, or is FROM_ENVIRONMENT and `env` names no collector; SettingsError if the library
    that sends spans is not installed.
    """
    check_installed("`orders trace --otlp URL` needs")
    if given == FROM_ENVIRONMENT:
        if not collector.is_named(env):
            raise Unusable(
                f"where to? `--otlp http://127.0.0.1:4318` sends to the collector there, {FROM_ENVIRONMENT} names one, "
                "`--otlp -` prints the trace"
            )
        return None
    if not is_http_address(given):
        raise Unusable(f"{redacted(given)!r} is no address of a collector, such as http://127.0.0.1:4318")
    url = urlsplit(given)
    return given if url.path.strip("/") else url._replace(path="/v1/traces").geturl()


def send(url: str | None, spans: Sequence[Span]) -> None:
    """Send the spans to the collector at `url`; None: to the one that the environment names.

    Raises Unreachable if it does not take them; it may have taken some.
    """
    from infra.tracing import otel  # noqa: PLC0415 - an extra

    common = {span.service: otel.resource(span.service) for span in spans}
    exporter = otel.otlp_exporter(url)
    try:
        for first in range(0, len(spans), SPANS_A_REQUEST):
            batch = [otel.readable(span, common[span.service]) for span in spans[first : first + SPANS_A_REQUEST]]
            if not otel.is_sent(exporter.export(batch)):
                at = redacted(url or collector.collector(os.environ)[1])
                raise Unreachable(
                    f"the collector at {at} did not take the spans: does it run, and speak OTLP over HTTP?"
                )
    finally:
        exporter.shutdown()
