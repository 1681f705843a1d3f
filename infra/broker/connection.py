"""One connection to the broker, for one session: it never reconnects by itself.

So what is buffered for one server is never sent to another.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog
from nats.errors import Error as NatsError
from nats.errors import NoServersError

from infra.aio import first_of
from infra.broker.client import BrokerClient
from infra.broker.errors import BrokerMisconfigured, ConnectionLost
from infra.broker.troubles import denied_subject, is_needed, not_connected
from infra.broker_url import BrokerUrl
from infra.settings import Settings

logger = structlog.get_logger()

CONNECT_TIMEOUT_S: Final = 2
PING_INTERVAL_S: Final = 2
INBOXES: Final = "_INBOX"
"""What the subjects begin with on which a client hears the answers to its requests."""


Connected = tuple[BrokerClient, asyncio.Event]
"""A client that is connected, and an event that is set once its connection is lost or closed."""

Connect = Callable[[Settings, str, asyncio.Event], contextlib.AbstractAsyncContextManager[Connected]]
"""Opens a session's connection, as `connect` does. The arguments: settings, a name for the connection, and an event
that gives up the attempt once it is set."""


@contextlib.asynccontextmanager
async def connect(
    settings: Settings,
    name: str,
    stopping: asyncio.Event,
    *,
    client: Callable[[], BrokerClient] = BrokerClient,
    inboxes: str = INBOXES,
) -> AsyncIterator[Connected]:
    """Connect a new `client` to the broker under this name, yield it with its `lost` event, and close it at the end.

    `inboxes`: what the subjects begin with on which the client gets answers. If it is below INBOXES, permissions can
    keep the client's user from hearing the answers to other clients.

    Goes through the broker's servers once, in random order; a silent one with TLS gets a second attempt, TLS first. The
    client never reconnects. `lost` is set when the connection is lost or closed, and when the broker denies what no
    session can do without; the client's `denied` has it. If no server takes the connection, raises BrokerMisconfigured
    if only an operator can remove each server's reason; else ConnectionLost. Also raises ConnectionLost if `stopping`
    is set before it is connected.
    """
    lost = asyncio.Event()
    opened: list[BrokerClient] = []
    try:
        await first_of(_try_all(settings, name, client, lost, opened, inboxes=inboxes), _raise_when(stopping))
        yield opened[-1], lost
    finally:
        for nc in opened:  # also after a failed attempt: the client keeps its socket open otherwise
            await _close(nc)


async def _try_all(
    settings: Settings,
    name: str,
    client: Callable[[], BrokerClient],
    lost: asyncio.Event,
    opened: list[BrokerClient],
    *,
    inboxes: str,
) -> None:
    """Connect to one of the servers; append each attempt's client to `opened`: the last one is the connected one.

    Raises the error of `not_connected` if no server takes the connection.
    """
    failed: list[tuple[BrokerUrl, Exception]] = []
    for server in random.sample(settings.brokers, len(settings.brokers)):
        # A server that wants TLS first says nothing before it, so it looks like one that hangs.
        for tls_first in (False, True) if server.tls else (False,):
            opened.append(client())
            error = await _try(opened[-1], server, name, lost, tls_first=tls_first, inboxes=inboxes)
            if error is None:
                return
            if tls_first and isinstance(error, TimeoutError):
                break
            failed = [*(one for one in failed if one[0] != server), (server, error)]
            if not isinstance(error, TimeoutError):
                break
    raise not_connected(failed, CONNECT_TIMEOUT_S)


async def _try(
    nc: BrokerClient, server: BrokerUrl, name: str, lost: asyncio.Event, *, tls_first: bool, inboxes: str
) -> Exception | None:
    """Connect `nc` to this server; return None, or the error: TimeoutError only if the server is there but silent."""
    reported: list[Exception] = []

    async def on_closed() -> None:
        lost.set()

    async def on_error(error: Exception) -> None:
        reported.append(error)
        del reported[:-1]
        subject = denied_subject(error)
        if subject is None:
            logger.debug("broker client", error=str(error) or type(error).__name__)
        elif subject not in nc.denied:
            nc.denied.append(subject)
            logger.warning("the broker denies a request", denied=subject)
            if is_needed(subject):
                lost.set()

    nc.needs_tls = server.tls and not tls_first
    token = server.user and server.password is None
    try:
        await nc.connect(
            f"nats://{server.at}",
            name=name,
            inbox_prefix=inboxes,
            user=None if token else server.user or None,
            password=server.password,
            token=server.user if token else None,
            tls_handshake_first=tls_first,
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
    except NoServersError as error:
        # The client tells only the callback why. No time-out of it may pass for one of a server that is there.
        cause = reported[-1] if reported else error
        return ConnectionLost(f"no answer within {CONNECT_TIMEOUT_S} s") if isinstance(cause, TimeoutError) else cause
    except (OSError, NatsError, BrokerMisconfigured) as error:
        return error
    return None


async def _close(nc: BrokerClient) -> None:
    with contextlib.suppress(OSError, NatsError, TimeoutError):
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await nc.close()


async def _raise_when(stopping: asyncio.Event) -> None:
    await stopping.wait()
    raise ConnectionLost("asked to stop while connecting")
