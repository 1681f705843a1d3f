"""What a supervisor runs: sessions with the broker, each over a connection of its own."""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from infra.broker.client import BrokerClient
from infra.broker.generations import Generations
from infra.consuming.consumer_session import ConsumerSession

Task = Callable[[], Coroutine[Any, Any, None]]


class Connection(NamedTuple):
    """A session's connection (`nc`, `js`), and the generations of the stream."""

    nc: BrokerClient
    js: JetStreamContext
    generations: Generations


class Session(NamedTuple):
    """What a session runs: its consumers, and `tasks` beside them. The session ends with the first of them that ends.

    `made` is called with each generation that is made while the session runs. `facts`: the names of the facts that the
    session publishes; empty for a read model.
    """

    consumer: ConsumerSession
    tasks: Sequence[Task]
    made: Callable[[StreamInfo], Coroutine[Any, Any, None]]
    facts: Sequence[str] = ()


class Supervised(Protocol):
    """Prepares the sessions that a supervisor runs: a service's side of the broker, or a read model of the stream."""

    def session(self, connection: Connection) -> AbstractAsyncContextManager[Session]:
        """Prepare one session, including its consumers; clean up on exit.

        An error while preparing ends the session, as one of its tasks' errors does.
        """
        ...

    def session_failed(self, error: Exception, reason: str, again_in_s: float) -> None:
        """Log the error that ended a session, and do what follows from it. The next one begins in `again_in_s` seconds.

        `reason` describes the error in words.
        """
