"""The process kills itself (SIGKILL) while the view of the stream CRASH_VIEW is fed, at the step that CRASH_AT names.

uncommitted   all of a transaction's rows are written, and nothing is committed
committed     it is committed, and the delivery is not acknowledged
"""

import os
import signal
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

from infra.broker.client import BrokerClient
from infra.broker.connection import connect
from infra.process.service import run
from infra.read_models.tables import Projection, Statement
from infra.store.records import Notification
from tests.wrappers import wrapped
from tests.wrappers.client import TappedClient, listener_of

VIEW = os.environ["CRASH_VIEW"]


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class CrashBeforeCommit:
    """A projection that ends the process after its last statement."""

    def __init__(self, projection: Projection) -> None:
        self.name: str = projection.name
        self.topics: Collection[str] = projection.topics
        self.tables: str = projection.tables
        self._apply = projection.apply

    def apply(self, records: Sequence[Notification]) -> Iterator[Statement]:
        yield from self._apply(records)
        if records:
            crash()


class CrashAfterCommit(TappedClient):
    async def acknowledge(self, ack_subject: str) -> None:
        if listener_of(ack_subject) == f"{os.environ['WRAPPED']}-{VIEW}":
            crash()
        await super().acknowledge(ack_subject)


def crashing_views(settings: Any) -> list[Projection]:
    return [CrashBeforeCommit(one) if one.name == VIEW else one for one in wrapped().stream_views(settings)]


if __name__ == "__main__":
    step = os.environ["CRASH_AT"]
    client: type[BrokerClient] = CrashAfterCommit if step == "committed" else BrokerClient
    service = wrapped(stream_views=crashing_views) if step == "uncommitted" else wrapped()
    run(service, connect=partial(connect, client=client))
