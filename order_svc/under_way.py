"""The orders under way, accepted and not ended yet. Too many of them, and the door closes before anything is recorded.

An order that is taken in has to end in time, and whoever waits for it holds a connection and memory. When the steps
behind the door are slower than what comes in, better say so at once than accept what will miss its deadline.
"""

from collections.abc import Sequence

from contracts import Fact, OrderCanceled, OrderConfirmed, OrderCreatedPending


class UnderWay:
    """Counts what this process has accepted; what it found left open at its start is on its way out and not counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._orders: set[str] = set()

    def recorded(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, OrderCreatedPending):
                self._orders.add(fact.order_id)
            elif isinstance(fact, OrderConfirmed | OrderCanceled):
                self._orders.discard(fact.order_id)

    def admits(self, order_id: str, waiting: int) -> bool:
        """Whether this order may come in: it is in already, or there is room besides those `waiting` to be recorded."""
        return len(self._orders) + waiting < self._most or order_id in self._orders
