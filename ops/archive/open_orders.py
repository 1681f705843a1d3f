"""Finds the orders of a generation that have not ended, or whose compensation is not complete."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from typing import Final

import msgspec
from nats.js.api import StreamInfo

from contracts import REASONS
from contracts.fact import DECODE_ERRORS
from contracts.origin import ForeignMessage, origin
from contracts.spans import CANCELED, CONFIRMED
from contracts.wire import MSG_ID
from infra.broker.client import header
from infra.broker.errors import HistoryUnavailable
from infra.broker.lookup import MOST_FACTS, latest_messages
from infra.broker.numbering import first_sequence, number_of
from infra.broker.stored import StoredMessage
from ops import reading
from ops.progress import Watch
from ops.reading import Read, Stream
from ops.stores import RecordedFacts
from ops.trace import OF_ORDER
from order_svc.compensation import compensated

FEW: Final = 2_000
"""Up to so many orders are looked up by their ids in the other kept generations. Only for more, or for those that are
open after that, these are read whole."""

_MSG_ID: Final = MSG_ID.encode()
_BITS: Final = {name: 1 << number for number, name in enumerate(OF_ORDER)}


class _Canceled(msgspec.Struct):
    reason: str


_canceled: Final = msgspec.json.Decoder(_Canceled)


class OrderFacts:
    """Knows of each order which facts of OF_ORDER it has, as bits, and why it was canceled. It grows with `take`."""

    def __init__(self) -> None:
        self._facts: dict[str, int] = {}
        self._reasons: dict[str, str] = {}

    def take(self, message: Read, among: Collection[str] | None = None) -> None:
        """Take a message if it is a fact of an order; with `among`, only if that has the order's id.

        Other messages are passed over, and so is an order's end that is foreign or cannot be decoded.
        """
        name, _, order_id = message.subject.rpartition(".")
        bit = _BITS.get(name)
        if bit is None or (among is not None and order_id not in among):
            return
        if name in (CONFIRMED, CANCELED):
            try:
                origin(message.subject, message.fact_id, message.head, message.body)
                if name == CANCELED:
                    self._reasons[order_id] = _canceled.decode(message.body).reason
            except (ForeignMessage, *DECODE_ERRORS):
                return
        self._facts[order_id] = self._facts.get(order_id, 0) | bit

    @property
    def ids(self) -> Collection[str]:
        return self._facts.keys()

    @property
    def open(self) -> set[str]:
        """The ids of the orders that have not ended, or are canceled and not compensated, by the facts taken so far.

        An order that was canceled for a reason that only newer code knows is one of them.
        """
        return {order_id for order_id, facts in self._facts.items() if not self._is_complete(order_id, facts)}

    def _is_complete(self, order_id: str, facts: int) -> bool:
        reason = self._reasons.get(order_id)
        if reason is None:
            return bool(facts & _BITS[CONFIRMED])
        if reason not in REASONS:  # newer code canceled it
            return False
        return compensated(reason, [name for name, bit in _BITS.items() if facts & bit])


async def open_orders(stream: Stream, info: StreamInfo, log: RecordedFacts, watch: Watch) -> list[str]:
    """Return the ids, sorted, of the orders with a fact in this generation that are not complete.

    An order is complete if it is confirmed, or canceled and compensated; facts in other generations and in the archive
    count, too. `log` is order_svc's; an order that it never recorded is left out. Raises ConsumerFailed,
    ArchiveDamaged, the errors of `log`, the client's errors.
    """
    orders = OrderFacts()
    watch.begins(f"looking for orders of {info.config.name} that have not ended", info.state.messages)
    async for message in _read(stream, first=info.state.first_seq, last=info.state.last_seq, watch=watch):
        orders.take(message)
    after = first_sequence((number_of(str(info.config.name)) or 0) + 1)
    async for message in _read(stream, f"{CANCELED}.*", first=after, watch=watch):  # also of one that was confirmed
        orders.take(message, orders.ids)
    if left := orders.open:  # such as those that began just before the roll-over
        for message in await _last_messages(stream, left, str(info.config.name)):
            orders.take(message, left)
    if left := orders.open:
        (oldest, *_) = await reading.kept_generations(stream)  # another one in a dry run alone: it archives none
        for first, last in ((oldest.state.first_seq, info.state.first_seq - 1), (after, None)):
            async for message in _read(stream, first=first, last=last, watch=watch):
                orders.take(message, left)
    if left := orders.open:
        for message in await asyncio.to_thread(_archived, stream, left):
            orders.take(message, left)
    return sorted([one for one in orders.open if await log.select_stream(f"order-{one}")])


async def _read(
    stream: Stream, *subjects: str, first: int, last: int | None = None, watch: Watch
) -> AsyncIterator[Read]:
    async with aclosing(reading.chunks(stream, subjects, first=first, last=last)) as chunks:
        async for chunk in chunks:
            watch.advances(len(chunk))
            for message in chunk:
                yield message


async def _last_messages(stream: Stream, order_ids: Collection[str], but: str) -> list[Read]:
    """Ask the broker for each order's last message of each name, in all kept generations except the one named `but`.

    So these generations need not be read whole for a few orders. Returns an empty list for more than FEW orders; only
    some messages, or none, if the broker cannot answer. Raises the client's errors and ArchiveDamaged.
    """
    if len(order_ids) > FEW:
        return []
    streams = [str(info.config.name) for info in reversed(await reading.kept_generations(stream))]
    others = [name for name in streams if name != but]
    subjects = [f"{name}.{order_id}" for order_id in sorted(order_ids) for name in OF_ORDER]
    found: list[StoredMessage] = []
    with contextlib.suppress(HistoryUnavailable):
        for begin in range(0, len(subjects), MOST_FACTS):
            found += await latest_messages(stream.nc, subjects[begin : begin + MOST_FACTS], others)
    return [
        Read(one.sequence, one.subject, header(one.raw_headers, _MSG_ID), one.body, one.raw_headers, one.stored_ns)
        for one in found
    ]


def _archived(stream: Stream, order_ids: Collection[str]) -> list[Read]:
    """Return the messages about these orders that the archive has; none without an archive. Raises ArchiveDamaged."""
    if stream.archive is None:
        return []
    subjects = [f"{name}.{order_id}" for name in OF_ORDER for order_id in order_ids]
    return [
        reading.of_message(message)
        for manifest in stream.archived
        for messages in stream.archive.read(manifest, subjects)
        for message in messages
    ]
