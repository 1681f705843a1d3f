"""Reading the stream on demand: the facts published under one key."""

import asyncio
from contextlib import suppress
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


ORDER_FACTS: Final = [name for name, fact in FACTS.items() if fact.key_field == "order_id"]


async def facts_about(nc: Client, order_id: str) -> list[Fact]:
    """The newest copy of each fact published under this order's id, oldest first.

    One request: the server looks up the last message of each of these subjects (`multi_last` of its direct get). They
    are spelled out: `*.*.<order_id>` costs the server the more the longer the history is. Raises HistoryUnavailable.
    """
    inbox = nc.new_inbox()
    facts: list[Fact] = []
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status is not None and not end.done():
            if status in ("204", "404"):  # that was all; there is nothing
                end.set_result(None)
            else:
                end.set_exception(HistoryUnavailable(f"the broker answered {status}"))
        if status is not None:
            return
        try:
            facts.append(decode(message.data))
        except msgspec.DecodeError:
            return

    subscription = None
    try:
        subscription = await nc.subscribe(inbox, cb=take)
        async with asyncio.timeout(TIMEOUT_S):
            question = {"multi_last": [f"{name}.{order_id}" for name in ORDER_FACTS], "batch": MOST_FACTS}
            await nc.publish(f"$JS.API.DIRECT.GET.{EVENTS}", msgspec.json.encode(question), inbox)
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
