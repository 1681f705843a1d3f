"""Deliveries reach the writer in reversed order: whatever came within a moment is handed over last first.

HELD_AT_FIRST (default 1): how many deliveries have to be there before the first are handed over.
Receipts keep their order: an acknowledgement covers all deliveries before it, and those should be covered.
"""

import asyncio
import os

from infra.core.messages import Acknowledger, Delivery
from infra.core.writer import Writer
from tests.wrappers import run_wrapped

MOMENT_S = 0.05
in_order = Writer.handle
held: list[tuple[Writer, Delivery, Acknowledger]] = []
at_least = int(os.environ.get("HELD_AT_FIRST", "1"))


def let_go() -> None:
    global at_least  # noqa: PLW0603
    at_least = 1
    receipts = [(delivery.ack_subject, delivery.number) for _, delivery, _ in held]
    for ack_subject, number in receipts:
        writer, delivery, acknowledger = held.pop()
        in_order(writer, delivery._replace(ack_subject=ack_subject, number=number), acknowledger)


def hold(self: Writer, delivery: Delivery, acknowledger: Acknowledger) -> None:
    held.append((self, delivery, acknowledger))
    if len(held) == at_least:
        asyncio.get_running_loop().call_later(MOMENT_S, let_go)


Writer.handle = hold  # type: ignore[method-assign]

if __name__ == "__main__":
    run_wrapped()
