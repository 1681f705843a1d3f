"""What a search for orders asks for, the order that facts of the log tell of, and whether that order fits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple

import msgspec

from contracts.fact import DECODE_ERRORS, Count, Order, Timestamp
from contracts.spans import ACCEPTED, CANCELED, CONFIRMED
from infra.store.records import Notification
from order_svc.domain import Status

ENDS: Final = {CONFIRMED: "CONFIRMED", CANCELED: "CANCELED"}
"""Name of a fact that ends an order → the status that the order then has."""

By = Literal["placed", "ended"]


class Criteria(NamedTuple):
    """Which orders are asked for: those to which all fields apply; None: any. `since` and `until` are included.

    `by`: which time of an order `since` and `until` bound, and by the position of which fact orders are sorted: of the
    acceptance (`placed`) or of the last end (`ended`). With `ended`, pending orders are not asked for. `uncompensated`:
    only canceled orders of which a step has not given back all; `fits` does not check that, but StepLogs.
    """

    user: str | None = None
    product: str | None = None
    coupon: str | None = None
    status: Status | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    by: By = "placed"
    uncompensated: bool = False

    @property
    def topics(self) -> Sequence[str]:
        """The names of the facts that a search reads first; orders are sorted by the positions of these facts."""
        if self.by == "placed":
            return (ACCEPTED,)
        return [name for name, status in ENDS.items() if self.status in (None, status)]

    @property
    def containing(self) -> bytes:
        """Bytes that each fact of `topics` has in its body if its order fits; empty if no id is asked for.

        They are one of the ids that are asked for, as JSON: the one that is likely to be the rarest.
        """
        rarest = self.coupon or self.user or self.product
        return b"" if rarest is None else msgspec.json.encode(rarest)

    def fits(self, found: "FoundOrder") -> bool:
        at = found.placed_at if self.by == "placed" else found.ended_at
        return (
            self.user in (None, found.user_id)
            and self.coupon in (None, found.coupon_id)
            and self.status in (None, found.status)
            and self.reason in (None, found.reason)
            and (self.product is None or any(line.product_id == self.product for line in found.lines))
            and at is not None
            and (self.since is None or self.since <= at)
            and (self.until is None or at <= self.until)
        )


class FoundLine(msgspec.Struct):
    product_id: str
    quantity: int


class FoundOrder(msgspec.Struct):
    """An order as the log has it now. `position`: in order_svc's log, of the fact by which orders are sorted.

    `ended_at`: when the order got its present status; None: it is pending. `reason`: None: it is not canceled.
    `amount_due`: in won; None: it is not confirmed.
    """

    position: int
    order_id: str
    user_id: str
    status: Status
    reason: str | None
    placed_at: datetime
    ended_at: datetime | None
    lines: list[FoundLine]
    points: int
    coupon_id: str | None
    amount_due: int | None


class _Body(msgspec.Struct):
    """The fields of order_svc's facts that are read here. A reason that only newer code knows is a text like others."""

    at: Timestamp
    order: Order
    reason: str | None = None
    amount_due: Count | None = None


_body: Final = msgspec.json.Decoder(_Body)


def found_order(record: Notification, later: Sequence[Notification]) -> FoundOrder | None:
    """Return the order that `record`, one of its facts, and all its `later` facts tell of, at the record's position.

    Returns None if the record is an end, and a later fact ended the order again. Raises ValueError, with a message for
    the operator, if a body that is needed cannot be read.
    """
    ends = [one for one in (record, *later) if one.topic in ENDS]
    if record.topic in ENDS and ends[-1] is not record:
        return None
    first = _decoded(record)
    last = _decoded(ends[-1]) if ends else None
    status: Status = "PENDING" if not ends else "CONFIRMED" if ends[-1].topic == CONFIRMED else "CANCELED"
    order = first.order
    return FoundOrder(
        position=record.position,
        order_id=record.originator_id.partition("-")[2],
        user_id=order.user_id,
        status=status,
        reason=None if last is None else last.reason,
        placed_at=order.placed_at,
        ended_at=None if last is None else last.at,
        lines=[FoundLine(line.product_id, line.quantity) for line in order.lines],
        points=order.points,
        coupon_id=order.coupon_id,
        amount_due=None if last is None else last.amount_due,
    )


def _decoded(record: Notification) -> _Body:
    try:
        return _body.decode(record.state)
    except DECODE_ERRORS as error:
        raise ValueError(f"{record.topic} at position {record.position} cannot be read: {error}") from error
