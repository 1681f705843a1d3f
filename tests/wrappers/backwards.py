"""Deliveries reach the writer in reversed order: whatever came within a moment is handed over last first.

HELD_AT_FIRST (default 1): how many deliveries have to be there before the first are handed over.
Receipts keep their order: an acknowledgement covers all deliveries before it, and those should be covered.
"""

import asyncio
import os

from infra.core.messages import Ear, Heard
from infra.core.writer import Writer
from tests.wrappers import run_wrapped

MOMENT_S = 0.05
in_order = Writer.tell
held: list[tuple[Writer, Heard, Ear]] = []
at_least = int(os.environ.get("HELD_AT_FIRST", "1"))


def let_go() -> None:
    global at_least  # noqa: PLW0603
    at_least = 1
    receipts = [(heard.receipt, heard.delivery) for _, heard, _ in held]
    for receipt, delivery in receipts:
        writer, heard, ear = held.pop()
        in_order(writer, heard._replace(receipt=receipt, delivery=delivery), ear)


def hold(self: Writer, heard: Heard, ear: Ear) -> None:
    held.append((self, heard, ear))
    if len(held) == at_least:
        asyncio.get_running_loop().call_later(MOMENT_S, let_go)


Writer.tell = hold  # type: ignore[method-assign]

if __name__ == "__main__":
    run_wrapped()
