"""Reading the stream EVENTS from outside: what stands under some subjects, in stream order, acknowledging nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final, NamedTuple

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from contracts.wire import MSG_ID
from infra.connection import CONNECT_TIMEOUT_S, connect, in_words
from infra.settings import Settings, load
from infra.stream import EVENTS
from ops.client import Unreachable

BATCH: Final = 500  # messages a fetch
FETCH_S: Final = 5.0
GONE_AFTER_S: Final = 30.0  # a consumer whose reader is gone is removed by the server


class Read(NamedTuple):
    """One message of the stream."""

    sequence: int
    subject: str
    fact_id: str
    body: bytes


@contextlib.asynccontextmanager
async def stream(env: Mapping[str, str]) -> AsyncIterator[JetStreamContext]:
    """A connection to the broker that `env` names. Raises Unreachable, SettingsError."""
    settings = load(Settings, "nats", 4_222, env)
    try:
        async with connect(settings, "orders", asyncio.Event()) as (nc, _):
            yield nc.jetstream(timeout=CONNECT_TIMEOUT_S)
    except (OSError, NatsError) as error:
        if isinstance(error, NotFoundError):
            raise Unreachable(f"the broker has no stream {EVENTS} yet; has a service run with it?") from error
        at = settings.broker_urls[0].rpartition("@")[2]  # without the password
        raise Unreachable(
            f"the broker at {at} cannot be read: {in_words(error)}; is the system running (`just up`)?"
        ) from error


async def read(
    js: JetStreamContext, subjects: Collection[str], *, first: int = 1, last: int | None = None, follow: bool = False
) -> AsyncIterator[Read]:
    """What stands under these subjects from sequence `first` up to and with `last`.

    Without `last` up to what is the stream's end now; with `follow` for ever. Raises the client's errors.
    """
    until = (await js.stream_info(EVENTS)).state.last_seq if last is None else last
    consumer = await js.add_consumer(
        EVENTS,
        ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=GONE_AFTER_S,
            filter_subjects=sorted(subjects),
        ),
    )
    subscription = await js.pull_subscribe_bind(consumer.name, EVENTS)
    waiting = consumer.num_pending or 0
    try:
        while follow or waiting:
            try:
                batch = await subscription.fetch(BATCH if follow else min(BATCH, waiting), timeout=FETCH_S)
            except NatsTimeoutError:
                continue  # nothing new
            for message in batch:
                metadata = message.metadata
                if metadata.sequence.stream > until and not follow:
                    return
                waiting = metadata.num_pending
                fact_id = (message.headers or {}).get(MSG_ID, "")
                yield Read(metadata.sequence.stream, message.subject, fact_id, message.data)
    finally:
        with contextlib.suppress(NatsError):
            await js.delete_consumer(EVENTS, consumer.name)
