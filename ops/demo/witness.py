"""Collects the facts that a system publishes."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from nats.aio.msg import Msg

from contracts import Fact
from contracts.wire import MSG_ID, NAMES, decode
from ops.demo.cases import CausedFact

PATIENCE_S: Final = 15.0
"""Seconds that one order's facts may take to arrive. They take milliseconds."""


class PublishedFact(NamedTuple):
    """A published fact and its id; `name` is the fact's name, such as `order.confirmed`."""

    fact_id: str
    fact: Fact

    @property
    def name(self) -> str:
        return NAMES[type(self.fact)]


class Witness:
    """Collects the facts that `take`, the callback of its subscriptions, receives.

    `facts` has each once, by its id, in the order in which they arrived.
    """

    def __init__(self) -> None:
        self.facts: dict[str, PublishedFact] = {}
        self._more = asyncio.Event()

    async def take(self, message: Msg) -> None:
        """Collect the message's fact. Ignore a message without a fact id: services send probes on these subjects."""
        fact_id = (message.headers or {}).get(MSG_ID)
        if fact_id is None:
            return
        self.facts.setdefault(fact_id, PublishedFact(fact_id, decode(message.data)))
        self._more.set()

    def about(self, order_id: str) -> list[PublishedFact]:
        return [said for said in self.facts.values() if getattr(said.fact, "order_id", None) == order_id]

    async def until(self, order_id: str, count: int) -> list[PublishedFact]:
        """Wait until `count` facts of the order have arrived, at most PATIENCE_S seconds; return those that have.

        There may be fewer or more than `count`. Each comes after its cause, otherwise they come as they arrived.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(self.about(order_id)) < count:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pass
        return _after_their_causes(self.about(order_id))

    def steps(self, facts: Sequence[PublishedFact]) -> list[CausedFact]:
        """Return the name of each fact with the name of its cause; None: it has none.

        A cause that is not among `facts` is named by its id.
        """
        names = {fact_id: NAMES[type(fact)] for fact_id, fact in facts}
        return [
            (names[fact_id], None if fact.cause is None else names.get(fact.cause, fact.cause))
            for fact_id, fact in facts
        ]


def _after_their_causes(facts: Sequence[PublishedFact]) -> list[PublishedFact]:
    """Return the facts, each after its cause, otherwise as given. Facts of two subjects may arrive in either order."""
    waiting, sorted_facts = list(facts), list[PublishedFact]()
    while waiting:
        ids = {one.fact_id for one in waiting}
        following = next((one for one in waiting if one.fact.cause not in ids), waiting[0])
        waiting.remove(following)
        sorted_facts.append(following)
    return sorted_facts
