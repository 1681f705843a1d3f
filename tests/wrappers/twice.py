"""Every delivery reaches the service twice: delivery n as the deliveries 2n - 1 and 2n."""

import os
from functools import partial

from infra.broker.client import MessageCallback
from infra.broker.connection import connect
from infra.broker.pull import numbers
from infra.process.service import run
from tests.wrappers import wrapped
from tests.wrappers.client import RenumberingClient, listener_of


class Twice(RenumberingClient):
    def delivered(self, handler: MessageCallback, subject: bytes, reply: bytes, body: bytes, head: bytes) -> None:
        if listener_of(reply) != os.environ["WRAPPED"]:  # a view's
            handler(subject, reply, body, head)
            return
        _, number, _ = numbers(reply)
        for copy in (2 * number - 1, 2 * number):
            handler(subject, self.renumbered(reply, copy, reply), body, head)


if __name__ == "__main__":
    run(wrapped(), connect=partial(connect, client=Twice))
