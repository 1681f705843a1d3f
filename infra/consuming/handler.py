"""The interface of a consumer's handler: a service's writer, or a read model of the stream."""

from collections.abc import Sequence
from typing import Protocol

from contracts.fact import Fact
from infra.core.messages import Acknowledger, Delivery
from infra.core.unit_of_work import Outcome


class Handler(Protocol):
    """Handles deliveries in batches as they arrive, and single messages that the retry queue passes on."""

    def handle(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        """Queue a delivery, and return at once. Its result goes to `acknowledger` later.

        One call of `acknowledger.handled` reports a delivery and all before it that came with this `acknowledger`,
        except those in the retry queue.
        """

    async def attempt(self, delivery: Delivery) -> Sequence[Fact]:
        """Handle one message, again or after it waited; return the facts once they are recorded.

        Call it for messages of one key one after another, in their order. Raises StoreUnavailable if the store fails:
        the facts may be recorded. Raises the error for which the message is rejected: nothing of it is recorded.
        """
        ...

    async def preview(self, messages: Sequence[Delivery]) -> list[Outcome]:
        """Return the outcomes that `attempt` would have for these in order, as far as can be told; record nothing.

        The list ends with the first error: an error is an outcome, and is not raised.
        """
        ...
