"""The process kills itself (SIGKILL) at the step that CRASH_AT names, the CRASH_AFTER-th time it gets there.

connected      there is a connection, and the stream was not asked yet where to continue
reset          the consumer is reset, and nothing has been delivered
heard          a delivery has come, and nothing is decided
batch          a batch of several commands is half decided
decided        a batch is decided, and nothing of it is recorded
recording      the commit is on its way, and other tasks of the process have gone on meanwhile
recorded       a batch is committed, and nothing of it is published, answered or acknowledged
settled        it is committed, all who wait for it are notified, and nothing has been sent to the broker
sent           facts are on their way to the broker, which has not acknowledged them
published      the broker has acknowledged facts, and no delivery has been acknowledged to the broker
acknowledging  a delivery is about to be acknowledged
acknowledged   the acknowledgement is on its way
listed         the order list has written part of the rows of a transaction
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from nats.js import JetStreamContext

from contracts import Fact
from infra.broker.client import BrokerClient, MessageCallback, Outgoing
from infra.broker.connection import connect
from infra.core.decider import Aggregate
from infra.process.service import Service, run
from infra.read_models.tables import Statement
from infra.store.records import Notification, Record
from infra.store.sqlite import SQLiteStore
from order_svc.listing import Listing
from tests.wrappers import wrapped
from tests.wrappers.client import TappedClient

STOCKING: Final = {
    *("product.registered", "product.stock.added", "product.stock.received"),
    *("point.charged", "point.deposited", "coupon.issued"),
}
"""Facts that are recorded before the first order. The steps of orders are of interest."""
A_MOMENT_S: Final = 0.002

remaining = int(os.environ.get("CRASH_AFTER", "1"))


def crash_if_due() -> None:
    global remaining  # noqa: PLW0603
    remaining -= 1
    if remaining <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


# The connection -------------------------------------------------------------------------------------------------------


class Connected(BrokerClient):
    async def connect(self, *arguments: Any, **more: Any) -> None:
        await super().connect(*arguments, **more)
        crash_if_due()


class ResetJetStream(JetStreamContext):
    async def reset_consumer(self, *arguments: Any, **more: Any) -> Any:
        await super().reset_consumer(*arguments, **more)
        crash_if_due()


class Reset(BrokerClient):
    def jetstream(self, **options: Any) -> JetStreamContext:
        return ResetJetStream(self, **options)


class Heard(TappedClient):
    def delivered(self, handler: MessageCallback, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        crash_if_due()
        handler(subject, reply, body, head)


class Sent(BrokerClient):
    async def send_all(self, messages: Iterable[Outgoing]) -> None:
        await super().send_all(messages)
        crash_if_due()


class Published(TappedClient):
    """Withholds all acknowledgements of deliveries."""

    withheld = False

    async def acknowledge(self, ack_subject: str) -> None:
        Published.withheld = True

    def arrived(self, handler: MessageCallback, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        super().arrived(handler, subject, reply, body, head)
        if Published.withheld and not reply and b'"stream"' in body:  # facts are stored
            crash_if_due()


class Acknowledging(TappedClient):
    async def acknowledge(self, ack_subject: str) -> None:
        crash_if_due()
        await super().acknowledge(ack_subject)


class Acknowledged(TappedClient):
    async def acknowledge(self, ack_subject: str) -> None:
        await super().acknowledge(ack_subject)
        crash_if_due()


# The store ------------------------------------------------------------------------------------------------------------


def of_orders(records: Sequence[Record]) -> bool:
    return any(record.topic not in STOCKING for record in records)


class Decided(SQLiteStore):
    async def insert_events(self, records: Sequence[Record]) -> None:
        if of_orders(records):
            crash_if_due()
        await super().insert_events(records)


class Recording(SQLiteStore):
    async def insert_events(self, records: Sequence[Record]) -> None:
        recording = asyncio.create_task(super().insert_events(records))
        if of_orders(records):
            await asyncio.wait([recording], timeout=A_MOMENT_S)
            crash_if_due()
        await recording


class Recorded(SQLiteStore):
    async def insert_events(self, records: Sequence[Record]) -> None:
        await super().insert_events(records)
        if of_orders(records):
            crash_if_due()


class Settling(SQLiteStore):
    """Remembers that something was committed; the writer notifies all who wait for it before it awaits anything."""

    committed = False

    async def insert_events(self, records: Sequence[Record]) -> None:
        await super().insert_events(records)
        Settling.committed = Settling.committed or of_orders(records)


class Settled(TappedClient):
    async def send_all(self, messages: Iterable[Outgoing]) -> None:
        self._crash_if_settled()
        await super().send_all(messages)

    async def acknowledge(self, ack_subject: str) -> None:
        self._crash_if_settled()
        await super().acknowledge(ack_subject)

    def _crash_if_settled(self) -> None:
        if Settling.committed:
            Settling.committed = False
            crash_if_due()


# The service ----------------------------------------------------------------------------------------------------------


def half_decided(service: Service) -> Service:
    """A batch is decided without awaiting anything, so a second decision in the same turn of the loop is of it, too."""
    begun = False

    def forget() -> None:
        nonlocal begun
        begun = False

    def crashing(aggregate: Aggregate) -> Aggregate:
        def decide(command: Any, *states: Any) -> Sequence[Fact]:
            nonlocal begun
            if begun:
                crash_if_due()
            facts = aggregate.decide(command, *states)
            if facts and not begun:
                begun = True
                asyncio.get_running_loop().call_soon(forget)
            return facts

        return replace(aggregate, decide=decide)

    return replace(service, aggregates={name: crashing(one) for name, one in service.aggregates.items()})


def half_listed(apply: Callable[[Sequence[Notification]], Iterable[Statement]]) -> Callable[..., Iterator[Statement]]:
    """How the order list's projection changes its tables, but the process ends between its two statements."""

    def crashing(records: Sequence[Notification]) -> Iterator[Statement]:
        insert, update = apply(records)
        yield insert
        crash_if_due()
        yield update

    return crashing


def listed(service: Service) -> Service:
    for view in service.views:
        if isinstance(view, Listing):  # changed in place: a projection of another class would be fed again
            vars(view)["apply"] = half_listed(view.apply)
    return service


class Step(NamedTuple):
    """The part of the process that crashes."""

    client: type[BrokerClient] = BrokerClient
    store: type[SQLiteStore] = SQLiteStore
    service: Callable[[Service], Service] = lambda service: service


STEPS: Final = {
    "connected": Step(client=Connected),
    "reset": Step(client=Reset),
    "heard": Step(client=Heard),
    "batch": Step(service=half_decided),
    "decided": Step(store=Decided),
    "recording": Step(store=Recording),
    "recorded": Step(store=Recorded),
    "settled": Step(client=Settled, store=Settling),
    "sent": Step(client=Sent),
    "published": Step(client=Published),
    "acknowledging": Step(client=Acknowledging),
    "acknowledged": Step(client=Acknowledged),
    "listed": Step(service=listed),
}

if __name__ == "__main__":
    step = STEPS[os.environ["CRASH_AT"]]
    run(step.service(wrapped()), open_store=step.store.open, connect=partial(connect, client=step.client))
