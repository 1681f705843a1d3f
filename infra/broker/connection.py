"""One connection to the broker, for one session: it never reconnects by itself.

Nothing buffered for one broker is ever flushed into another, and whoever connects anew asks where to continue.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import structlog
from nats.errors import Error as NatsError

from infra.broker.client import BrokerClient
from infra.broker.errors import ConnectionLost
from infra.settings import Settings

logger = structlog.get_logger()

CONNECT_TIMEOUT_S: Final = 2
PING_INTERVAL_S: Final = 2


Connected = tuple[BrokerClient, asyncio.Event]
"""A connection, and an event that is set once it is lost."""

Connect = Callable[[Settings, str, asyncio.Event], contextlib.AbstractAsyncContextManager[Connected]]
"""How a session gets its connection; `connect` is the way."""


@contextlib.asynccontextmanager
async def connect(settings: Settings, name: str, stopping: asyncio.Event) -> AsyncIterator[Connected]:
    """A connection named `name`.

    Raises OSError or the client's errors, and ConnectionLost if `stopping` is set before there is one.
    """
    lost = asyncio.Event()

    async def on_closed() -> None:
        lost.set()

    async def on_error(error: Exception) -> None:
        logger.debug("broker client", error=str(error) or type(error).__name__)

    nc = BrokerClient()
    try:
        connecting = nc.connect(
            settings.broker_urls,
            name=name,
            allow_reconnect=False,
            # By default the client tries the first connection 60 times, 2 s apart; with 0 for ever.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECT_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=2,
            closed_cb=on_closed,
            disconnected_cb=on_closed,
            error_cb=on_error,
        )
        await _unless(stopping, connecting)
        yield nc, lost
    finally:
        # Also after a connection that came to nothing: the client keeps its socket open otherwise.
        with contextlib.suppress(OSError, NatsError, TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await nc.close()


async def _unless(stopping: asyncio.Event, connecting: Coroutine[Any, Any, None]) -> None:
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(connecting), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ConnectionLost("asked to stop while connecting")
        tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def describe(error: Exception) -> str:
    """What ended a session, for whoever reads the log or `/readyz`."""
    return str(error) or (
        "the broker did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    )
