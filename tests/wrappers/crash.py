"""The process kills itself (SIGKILL) at the step that CRASH_AT names, the CRASH_AFTER-th time it gets there.

recorded    a batch is committed, nothing of it is published, answered or acknowledged
published   the broker has acknowledged facts, but no delivery has been acknowledged to the broker
batch       a batch of several commands is half decided
listed      the order list has written some of what a portion of the log makes of it
"""

import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from contracts import Fact
from infra.decider import Batch, Command, Record
from infra.hearing import Hearing
from infra.relay import Window
from infra.sqlite import SQLiteStore
from infra.store import Notification
from infra.views import Statement
from order_svc.listing import Listing
from tests.wrappers import run_wrapped

unacknowledged: list[str] = []
remaining = int(os.environ["CRASH_AFTER"])


def crash_if_due() -> None:
    global remaining  # noqa: PLW0603
    remaining -= 1
    if remaining <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


insert_events = SQLiteStore.insert_events
acknowledged = Window.ack
decide = Batch.decide
apply = Listing.apply


async def crash_when_recorded(self: SQLiteStore, records: Sequence[Record]) -> None:
    await insert_events(self, records)
    if any(record.topic not in {"product.registered", "product.stock.added"} for record in records):
        crash_if_due()


def crash_when_published(self: Window, position: int) -> None:
    acknowledged(self, position)
    if unacknowledged:
        crash_if_due()


async def never_acknowledge(self: Hearing) -> None:
    if self._to_acknowledge:
        unacknowledged.append(self._to_acknowledge)
        self._to_acknowledge = ""


def crash_within_a_batch(self: Batch, command: Command) -> Sequence[Fact]:
    if self.records:
        crash_if_due()
    return decide(self, command)


def crash_while_listing(self: Listing, records: Sequence[Notification]) -> Iterator[Statement]:
    insert, update = apply(self, records)
    yield insert
    crash_if_due()
    yield update


patches: dict[str, list[tuple[Any, str, Any]]] = {
    "recorded": [(SQLiteStore, "insert_events", crash_when_recorded)],
    "published": [(Window, "ack", crash_when_published), (Hearing, "_acknowledge", never_acknowledge)],
    "batch": [(Batch, "decide", crash_within_a_batch)],
    "listed": [(Listing, "apply", crash_while_listing)],
}
for owner, name, patch in patches[os.environ["CRASH_AT"]]:
    setattr(owner, name, patch)

if __name__ == "__main__":
    run_wrapped()
