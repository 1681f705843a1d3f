"""Reads the stream EVENTS on demand: the newest facts published under one key."""

import asyncio
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
from infra.broker.streams import EVENTS

TIMEOUT_S: Final = 1.0
MOST_FACTS: Final = 1_000


async def latest_facts(nc: Client, key_field: str, key: str) -> list[Fact]:
    """Return the facts published under this key, sorted by `at`; of facts with the same name only the last published.

    Only facts whose key is their field `key_field` are looked up. Empty if there is none. Raises HistoryUnavailable,
    after a second at the latest.

    One request: the server looks up the last message of each subject (`multi_last` of its direct get). The subjects are
    spelled out, because the cost of the wildcard `*.*.<key>` grows with the history.
    """
    inbox = nc.new_inbox()
    facts: list[Fact] = []
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status is not None:
            _end(end, status)
            return
        with suppress(msgspec.DecodeError):  # another publisher's message
            facts.append(decode(message.data))

    subscription = None
    try:
        subscription = await nc.subscribe(inbox, cb=take)
        async with asyncio.timeout(TIMEOUT_S):
            subjects = [f"{name}.{key}" for name in _names(key_field)]
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
    return sorted(facts, key=lambda fact: fact.at)


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
