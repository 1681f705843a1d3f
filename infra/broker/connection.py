"""One connection to the broker, for one session: it never reconnects by itself.

Nothing buffered for one broker is ever flushed into another, and each new session asks the stream where to continue.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog
from nats.errors import Error as NatsError

from infra.aio import first_of
from infra.broker.client import BrokerClient
from infra.broker.errors import ConnectionLost
from infra.settings import Settings

logger = structlog.get_logger()

CONNECT_TIMEOUT_S: Final = 2
PING_INTERVAL_S: Final = 2


Connected = tuple[BrokerClient, asyncio.Event]
"""A client that is connected, and an event that is set once its connection is lost or closed."""

Connect = Callable[[Settings, str, asyncio.Event], contextlib.AbstractAsyncContextManager[Connected]]
"""Opens a session's connection, as `connect` does. The arguments: settings, a name for the connection, and an event
that gives up the attempt once it is set."""


@contextlib.asynccontextmanager
async def connect(
    settings: Settings, name: str, stopping: asyncio.Event, *, client: Callable[[], BrokerClient] = BrokerClient
) -> AsyncIterator[Connected]:
    """Connect a new `client` to the broker under this name, yield it with its `lost` event, and close it at the end.

    It never reconnects. Raises OSError or the client's errors, and ConnectionLost if `stopping` is set before there is
    a connection.
    """
    lost = asyncio.Event()

    async def on_closed() -> None:
        lost.set()

    async def on_error(error: Exception) -> None:
        logger.debug("broker client", error=str(error) or type(error).__name__)

    nc = client()
    try:
        connecting = nc.connect(
            settings.broker_urls,
            name=name,
            allow_reconnect=False,
            # By default the client tries the first connection 60 times, 2 s apart; with 0 it tries for ever.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECT_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=2,
            closed_cb=on_closed,
            disconnected_cb=on_closed,
            error_cb=on_error,
        )
        await first_of(connecting, _raise_when(stopping))
        yield nc, lost
    finally:
        # Also after a failed attempt: the client keeps its socket open otherwise.
        with contextlib.suppress(OSError, NatsError, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await nc.close()


async def _raise_when(stopping: asyncio.Event) -> None:
    await stopping.wait()
    raise ConnectionLost("asked to stop while connecting")


def describe(error: Exception) -> str:
    """Return the error's text for logs, `/readyz` and HTTP problems.

    An error without a text gets one: that the broker did not answer in time, or else the name of its type.
    """
    return str(error) or (
        "the broker did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    )
