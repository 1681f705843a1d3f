"""Reads the stream EVENTS on demand: the newest messages of given subjects, and the newest facts of one key."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Final, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from contracts.fact import Fact
from contracts.wire import FACTS, decode
from infra.broker.errors import HistoryUnavailable
from infra.broker.streams import EVENTS

TIMEOUT_S: Final = 1.0
MOST_FACTS: Final = 1_000


class Stored(NamedTuple):
    """A message of EVENTS as the broker has it."""

    subject: str
    sequence: int
    body: bytes


async def latest_facts(nc: Client, key_field: str, key: str) -> list[Fact]:
    """Return the facts published under this key, sorted by `at`; of facts with the same name only the last published.

    Only facts whose key is their field `key_field` are looked up. Empty if there is none. Raises HistoryUnavailable,
    after a second at the latest.

    The subjects are spelled out, because the cost of the wildcard `*.*.<key>` grows with the history.
    """
    facts: list[Fact] = []
    for message in await latest_messages(nc, [f"{name}.{key}" for name in _names(key_field)]):
        with suppress(msgspec.DecodeError, UnicodeDecodeError):  # another publisher's message
            facts.append(decode(message.body))
    return sorted(facts, key=lambda fact: fact.at)


async def latest_messages(nc: Client, subjects: Sequence[str]) -> list[Stored]:
    """Return the last message of each of these subjects that has one; at most MOST_FACTS subjects, no wildcards.

    One request: `multi_last` of the server's direct get. Raises HistoryUnavailable, after a second at the latest.
    """
    inbox = nc.new_inbox()
    found: list[Stored] = []
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status")
        if status is not None:
            _end(end, status)
            return
        found.append(Stored(headers["Nats-Subject"], int(headers["Nats-Sequence"]), message.data))

    subscription = None
    try:
        subscription = await nc.subscribe(inbox, cb=take)
        async with asyncio.timeout(TIMEOUT_S):
            request = msgspec.json.encode({"multi_last": subjects, "batch": MOST_FACTS})
            await nc.publish(f"$JS.API.DIRECT.GET.{EVENTS}", request, inbox)
            await end
    except TimeoutError:
        raise HistoryUnavailable("the broker did not answer in time") from None
    except NatsError as error:
        raise HistoryUnavailable(f"the broker could not be asked: {error}") from error
    finally:
        if subscription is not None:
            with suppress(NatsError):
                await subscription.unsubscribe()
    return found


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
