"""Deliveries reach the service in reversed order: those of one moment are handed over last first, of all its consumers.

HELD_AT_FIRST (default 1): how many deliveries have to be there before the first are handed over. Numbers and
acknowledgements of a consumer keep their order: an acknowledgement covers all its deliveries before it, and those
should be covered.
"""

import asyncio
import os
from collections import deque
from functools import partial

from infra.broker.client import MessageCallback
from infra.broker.connection import connect
from infra.broker.pull import numbers
from infra.process.service import run
from tests.wrappers import wrapped
from tests.wrappers.client import RenumberingClient, consumer_of, listener_of

MOMENT_S = 0.05


class Backwards(RenumberingClient):
    at_least = int(os.environ.get("HELD_AT_FIRST", "1"))

    def __init__(self) -> None:
        super().__init__()
        self._held: list[tuple[MessageCallback, bytes, bytes, bytes, bytes]] = []

    def delivered(self, handler: MessageCallback, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        if listener_of(reply) != os.environ["WRAPPED"]:  # a view's
            handler(subject, reply, body, head)
            return
        self._held.append((handler, subject, reply, body, head))
        if len(self._held) == Backwards.at_least:
            asyncio.get_running_loop().call_later(MOMENT_S, self._let_go)

    def _let_go(self) -> None:
        Backwards.at_least = 1
        held, self._held = self._held, []
        replies: dict[str, deque[bytes]] = {}
        for _, _, reply, _, _ in held:
            replies.setdefault(consumer_of(reply), deque()).append(reply)
        for handler, subject, own, body, head in sorted(held, key=lambda one: numbers(one[2])[0], reverse=True):
            reply = replies[consumer_of(own)].popleft()
            _, number, _ = numbers(reply)
            handler(subject, self.renumbered(own, number, reply), body, head)


if __name__ == "__main__":
    run(wrapped(), connect=partial(connect, client=Backwards))
