"""Reads the stream EVENTS on demand: the newest facts published under one key."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from contracts.fact import Fact
from contracts.wire import FACTS, decode
from infra.broker.errors import HistoryUnavailable
from infra.broker.leader import ANSWERED_BY, TRIES
from infra.broker.streams import EVENTS

TIMEOUT_S: Final = 1.0
MOST_FACTS: Final = 1_000


async def latest_facts(nc: Client, key_field: str, key: str) -> list[Fact]:
    """Return the facts published under this key, sorted by `at`; of facts with the same name only the last published.

    Only facts whose key is their field `key_field` are looked up. Empty if there is none. Raises HistoryUnavailable,
    after a second at the latest.

    One request: the server looks up the last message of each subject (`multi_last` of its direct get). The subjects are
    spelled out, because the cost of the wildcard `*.*.<key>` grows with the history. If a mirror of EVENTS answers, or
    there is nothing, which a mirror may have said, the request is repeated up to TRIES times.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(TRIES):
                facts, whole = await _ask(nc, [f"{name}.{key}" for name in _names(key_field)])
                if whole and facts:
                    break
    except TimeoutError:
        raise HistoryUnavailable("the broker did not answer in time") from None
    except NatsError as error:
        raise HistoryUnavailable(f"the broker could not be asked: {error}") from error
    if not whole:
        raise HistoryUnavailable(f"a mirror answers in place of {EVENTS}")
    return sorted(facts, key=lambda fact: fact.at)


async def _ask(nc: Client, subjects: Sequence[str]) -> tuple[list[Fact], bool]:
    """Return the last facts of these subjects, and whether EVENTS itself answered, not a mirror.

    Raises HistoryUnavailable, the client's errors.
    """
    inbox = nc.new_inbox()
    facts: list[Fact] = []
    others: set[str] = set()
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        headers = message.headers or {}
        if (status := headers.get("Status")) is not None:
            _end(end, status)
            return
        others.update({headers.get(ANSWERED_BY, "")} - {EVENTS})
        with suppress(msgspec.DecodeError, UnicodeDecodeError):  # another publisher's message
            facts.append(decode(message.data))

    subscription = await nc.subscribe(inbox, cb=take)
    try:
        request = msgspec.json.encode({"multi_last": subjects, "batch": MOST_FACTS})
        await nc.publish(f"$JS.API.DIRECT.GET.{EVENTS}", request, inbox)
        await end
    finally:
        with suppress(NatsError):
            await subscription.unsubscribe()
    return facts, not others


def _end(end: asyncio.Future[None], status: str) -> None:
    if end.done():
        return
    if status in ("204", "404"):  # 204: the last message was sent; 404: there is none
        end.set_result(None)
    else:
        end.set_exception(HistoryUnavailable(f"the broker answered {status}"))


@cache
def _names(key_field: str) -> list[str]:
    return [name for name, fact in FACTS.items() if fact.key_field == key_field]
