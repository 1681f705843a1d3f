"""Rolls the stream over: makes the next generation and its consumers, and seals the one before once it is quiet.

Each step may be done twice, by two processes at once, or be the last one before a crash: the next process goes on.
Services move to a new generation by themselves (see `Generations.look`). A service that has not moved when the old one
is sealed is refused, looks for the newest one, and publishes there: nothing is lost.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog
from msgspec.structs import replace as replace_settings
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamInfo

from infra.broker.client import BrokerClient
from infra.broker.consumers import all_consumers
from infra.broker.generations import find_generations
from infra.broker.numbering import number_of, stream_name
from infra.broker.streams import ensure_stream
from infra.settings import Settings

logger = structlog.get_logger()

QUIET_S: Final = 10.0
"""A generation that has a successor is sealed once nothing has come for this long: services look each second."""

OVERDUE: Final = 1.5
"""From so many times its messages, bytes or age on, services warn that a generation has not rolled over."""

SPARE_BYTES: Final = 1 << 20
"""How far the limit of a sealed generation is above its size. Brokers reserve the limit: the rest is for others."""


def due(newest: StreamInfo, settings: Settings, now: datetime, *, limit: float = 0.5) -> str | None:
    """Return why the newest generation should have a successor, in words; None if it should not, as while it is empty.

    It should from the settings' number of messages, bytes or age on. It also should once it fills the part `limit` (0
    to 1) of its own `max_bytes`.
    """
    state, most_bytes = newest.state, settings.events_roll_bytes
    if (most := newest.config.max_bytes or 0) > 0:
        most_bytes = min(most_bytes, int(most * limit))  # it takes messages until all services have moved
    if not state.messages:
        return None
    if state.messages >= settings.events_roll_messages:
        return f"it has {state.messages} messages"
    if state.bytes >= most_bytes:
        return f"it has {state.bytes} bytes"
    age = timedelta(0) if newest.created is None else now - newest.created
    return f"it is {age.days} days old" if age.total_seconds() >= settings.events_roll_age_s else None


def overdue(newest: StreamInfo, settings: Settings, now: datetime) -> str | None:
    """Return a warning if the newest generation, unsealed, has OVERDUE times what makes it `due`; None if not."""
    later = replace_settings(
        settings,
        events_roll_messages=int(OVERDUE * settings.events_roll_messages),
        events_roll_bytes=int(OVERDUE * settings.events_roll_bytes),
        events_roll_age_s=OVERDUE * settings.events_roll_age_s,
    )
    if newest.config.sealed or (why := due(newest, later, now, limit=0.5 * OVERDUE)) is None:
        return None
    return f"{newest.config.name} has not rolled over, though {why}: is the keeper running (just stream keeper)?"


async def roll(nc: BrokerClient, js: JetStreamContext, settings: Settings, why: str) -> StreamInfo | None:
    """Make the generation after the newest, and its consumers; return its info. If the newest is empty, return None.

    `why` is only logged. Raises StreamMisconfigured, the client's errors; NotFoundError if there is no generation yet.
    """
    newest = (await find_generations(nc, js))[-1]
    if not newest.state.messages:
        return None
    number = (number_of(str(newest.config.name)) or 0) + 1
    made = await ensure_stream(js, settings, number)
    logger.info("rolled over", stream=stream_name(number), after=newest.config.name, why=why)
    await copy_consumers(js, newest, made)
    return made


async def copy_consumers(js: JetStreamContext, old: StreamInfo, new: StreamInfo) -> None:
    """Make in `new` each consumer like a listener's that `old` has and `new` lacks. Raises the client's errors.

    It delivers from the beginning of `new`. The listeners make theirs, too. Those of a service that is away are made
    here, so that what it has not heard shows.
    """
    there = {info.name for info in await all_consumers(js, str(new.config.name))}
    for info in await all_consumers(js, str(old.config.name)):
        config = info.config
        if info.name not in there and _is_a_listeners(config):
            copied = replace(config, deliver_policy=DeliverPolicy.ALL, opt_start_seq=None, opt_start_time=None)
            await js.add_consumer(str(new.config.name), copied)


def _is_a_listeners(config: ConsumerConfig) -> bool:
    """Whether it is like a listener's consumer: durable, acknowledged cumulatively, one filter subject or none."""
    return bool(config.durable_name) and config.ack_policy == AckPolicy.ALL and not config.filter_subjects


class Sealing:
    """Seals generations that have a successor, once nothing has come for `quiet_s` seconds; remembers what it saw."""

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._seen: dict[str, tuple[int, float]] = {}
        """By stream: its last sequence, and when (loop's time) it was first seen with that one."""

    async def look(self, js: JetStreamContext, infos: Sequence[StreamInfo], now_s: float) -> list[str]:
        """Seal quiet generations but the newest, lower the limits of sealed ones; return the names of those it sealed.

        `infos` are those of the generations, the oldest first; `now_s` is the loop's time. Raises the client's errors.
        """
        sealed = []
        for info in infos[:-1]:
            name, last = str(info.config.name), info.state.last_seq
            if info.config.sealed:
                await _shrink(js, info)
                continue
            seen, since_s = self._seen.get(name, (-1, now_s))
            if seen != last:
                since_s = now_s
            self._seen[name] = last, since_s
            if now_s - since_s >= self._quiet_s:
                info.config.sealed = True
                await _shrink(js, await js.update_stream(info.config))
                logger.info("sealed", stream=name, messages=info.state.messages)
                sealed.append(name)
        return sealed


async def _shrink(js: JetStreamContext, info: StreamInfo) -> None:
    """Lower a sealed generation's `max_bytes` to SPARE_BYTES above its size, if higher. Raises the client's errors."""
    wanted = info.state.bytes + SPARE_BYTES
    if info.config.sealed and (info.config.max_bytes or 0) > wanted:
        info.config.max_bytes = wanted
        await js.update_stream(info.config)
