"""The process kills itself (SIGKILL) at the step that CRASH_AT names, the CRASH_AFTER-th time it gets there.

connected      there is a connection, the stream has not been asked yet where to continue
reset          the consumer is reset, nothing has been heard
heard          a delivery has come, nothing is decided
batch          a batch of several commands is half decided
decided        a batch is decided, nothing of it is recorded
recording      the commit is on its way; what else goes on in the process has gone on meanwhile
recorded       a batch is committed, nothing of it is published, answered or acknowledged
settled        it is committed, and all who wait are told; nothing has left the process
sent           facts are on their way to the broker, which has not acknowledged them
published      the broker has acknowledged facts, but no delivery has been acknowledged to the broker
acknowledging  a delivery is about to be acknowledged
acknowledged   the acknowledgement is on its way
listed         the order list has written some of what a portion of the log makes of it
"""

import asyncio
import os
import signal
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from nats.js import JetStreamContext

from contracts import Fact
from infra.broker.client import BrokerClient, Outgoing
from infra.broker.consumers import ensure_consumer
from infra.broker.relay import Relay, Window
from infra.consuming import session
from infra.consuming.consumer import ConsumerSession
from infra.core.decider import Batch, Command
from infra.core.messages import Acknowledger, Delivery
from infra.core.writer import Writer
from infra.read_models.tables import Statement
from infra.store.records import Notification, Record
from infra.store.sqlite import SQLiteStore
from order_svc.listing import Listing
from tests.wrappers import run_wrapped

STOCKING: Final = {"product.registered", "product.stock.added", "point.charged", "coupon.issued"}
"""What is recorded before anybody orders: the steps of orders are of interest."""
A_MOMENT_S: Final = 0.002

unacknowledged: list[str] = []
remaining = int(os.environ.get("CRASH_AFTER", "1"))


def crash_if_due() -> None:
    global remaining  # noqa: PLW0603
    remaining -= 1
    if remaining <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


find_resume_position = Relay.find_resume_position

handle = Writer.handle
decide = Batch.decide
insert_events = SQLiteStore.insert_events
settle = Writer._settle
send_all = BrokerClient.send_all
acknowledged = Window.ack
acknowledge = ConsumerSession._acknowledge
apply = Listing.apply


def of_orders(records: Sequence[Record]) -> bool:
    return any(record.topic not in STOCKING for record in records)


async def crash_when_connected(self: Relay, acked: int = 0) -> None:
    crash_if_due()
    await find_resume_position(self, acked)


async def crash_when_reset(
    js: JetStreamContext, service: str, hears: Collection[str], last_sequence: int, truncated_after: int | None = None
) -> None:
    await ensure_consumer(js, service, hears, last_sequence, truncated_after)
    crash_if_due()


def crash_when_delivered(self: Writer, delivery: Delivery, acknowledger: Acknowledger) -> None:
    crash_if_due()
    handle(self, delivery, acknowledger)


def crash_within_a_batch(self: Batch, command: Command) -> Sequence[Fact]:
    if self.records:
        crash_if_due()
    return decide(self, command)


async def crash_when_decided(self: SQLiteStore, records: Sequence[Record]) -> None:
    if of_orders(records):
        crash_if_due()
    await insert_events(self, records)


async def crash_while_recording(self: SQLiteStore, records: Sequence[Record]) -> None:
    recording = asyncio.create_task(insert_events(self, records))
    if of_orders(records):
        await asyncio.wait([recording], timeout=A_MOMENT_S)
        crash_if_due()
    await recording


async def crash_when_recorded(self: SQLiteStore, records: Sequence[Record]) -> None:
    await insert_events(self, records)
    if of_orders(records):
        crash_if_due()


async def crash_when_settled(self: Writer, batch: Any) -> None:
    await settle(self, batch)
    crash_if_due()


async def crash_when_sent(self: BrokerClient, messages: Iterable[Outgoing]) -> None:
    await send_all(self, messages)
    crash_if_due()


def crash_when_published(self: Window, position: int) -> None:
    acknowledged(self, position)
    if unacknowledged:
        crash_if_due()


async def never_acknowledge(self: ConsumerSession) -> None:
    if self._to_acknowledge:
        unacknowledged.append(self._to_acknowledge)
        self._to_acknowledge = ""


async def crash_before_acknowledging(self: ConsumerSession) -> None:
    if self._to_acknowledge:
        crash_if_due()
    await acknowledge(self)


async def crash_when_acknowledged(self: ConsumerSession) -> None:
    had_to = bool(self._to_acknowledge)
    await acknowledge(self)
    if had_to:
        crash_if_due()


def crash_while_listing(self: Listing, records: Sequence[Notification]) -> Iterator[Statement]:
    insert, update = apply(self, records)
    yield insert
    crash_if_due()
    yield update


STEPS: Final[dict[str, list[tuple[Any, str, Any]]]] = {
    "connected": [(Relay, "find_resume_position", crash_when_connected)],
    "reset": [(session, "ensure_consumer", crash_when_reset)],
    "heard": [(Writer, "handle", crash_when_delivered)],
    "batch": [(Batch, "decide", crash_within_a_batch)],
    "decided": [(SQLiteStore, "insert_events", crash_when_decided)],
    "recording": [(SQLiteStore, "insert_events", crash_while_recording)],
    "recorded": [(SQLiteStore, "insert_events", crash_when_recorded)],
    "settled": [(Writer, "_settle", crash_when_settled)],
    "sent": [(BrokerClient, "send_all", crash_when_sent)],
    "published": [(Window, "ack", crash_when_published), (ConsumerSession, "_acknowledge", never_acknowledge)],
    "acknowledging": [(ConsumerSession, "_acknowledge", crash_before_acknowledging)],
    "acknowledged": [(ConsumerSession, "_acknowledge", crash_when_acknowledged)],
    "listed": [(Listing, "apply", crash_while_listing)],
}

if __name__ == "__main__":
    for owner, name, patch in STEPS[os.environ["CRASH_AT"]]:
        setattr(owner, name, patch)
    run_wrapped()
