"""The interface of a consumer's handler: a service's writer, or a read model of the stream."""

from collections.abc import Sequence
from typing import Protocol

from contracts.fact import Fact
from infra.core.messages import Acknowledger, Delivery
from infra.core.unit_of_work import Outcome


class Handler(Protocol):
    """Handles messages in batches as they arrive, and retries rejected messages one at a time."""

    def handle(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        """Take a delivery. `acknowledger` is notified once it is handled, rejected or failed."""

    async def attempt(self, delivery: Delivery) -> Sequence[Fact]:
        """Handle one message that was rejected before; return the facts that were recorded.

        Raises StoreUnavailable, or the error for which the message is rejected again.
        """
        ...

    async def preview(self, messages: Sequence[Delivery]) -> list[Outcome]:
        """The outcomes that `attempt` would have for these in order, up to the first error. Nothing is recorded."""
        ...
