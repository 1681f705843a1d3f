"""Deliveries reach the writer in reversed order: whatever came within a moment is handed over last first.

Receipts keep their order: an acknowledgement covers all deliveries before it, and those should be covered.
"""

import asyncio

from infra.writer import Ear, Heard, Writer
from tests.wrappers import run_wrapped

MOMENT_S = 0.05
in_order = Writer.tell
held: list[tuple[Writer, Heard, Ear]] = []


def let_go() -> None:
    receipts = [heard.receipt for _, heard, _ in held]
    for receipt in receipts:
        writer, heard, ear = held.pop()
        in_order(writer, heard._replace(receipt=receipt), ear)


def hold(self: Writer, heard: Heard, ear: Ear) -> None:
    if not held:
        asyncio.get_running_loop().call_later(MOMENT_S, let_go)
    held.append((self, heard, ear))


Writer.tell = hold  # type: ignore[method-assign]

if __name__ == "__main__":
    run_wrapped()
