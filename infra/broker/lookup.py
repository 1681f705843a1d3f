"""Reads the stream EVENTS on demand: the newest facts published under one key."""

import asyncio
from contextlib import suppress
from functools import cache
from typing import Any, Final

import msgspec
from nats.errors import Error as NatsError

from contracts.fact import Fact
from contracts.origin import ForeignMessage, origin
from contracts.wire import FACTS, MSG_ID, decode
from infra.broker.client import BrokerClient, header, status
from infra.broker.errors import HistoryUnavailable
from infra.broker.streams import EVENTS

TIMEOUT_S: Final = 1.0
MOST_FACTS: Final = 1_000

_MSG_ID: Final = MSG_ID.encode()


async def latest_facts(nc: BrokerClient, key_field: str, key: str) -> list[Fact]:
    """Return the facts published under this key, sorted by `at`; of facts with the same name only the last published.

    Only facts whose key is their field `key_field` are looked up, and foreign messages are passed over. Empty if there
    is none. Raises HistoryUnavailable, after a second at the latest.

    One request: the server looks up the last message of each subject (`multi_last` of its direct get). The subjects are
    spelled out, because the cost of the wildcard `*.*.<key>` grows with the history. A foreign message that is the last
    of its subject costs another request.
    """
    subjects = [f"{name}.{key}" for name in _names(key_field)]
    try:
        async with asyncio.timeout(TIMEOUT_S):
            facts, foreign = await _ask(nc, {"multi_last": subjects})
            for subject in sorted(foreign):
                facts += (await _ask(nc, {"next_by_subj": subject, "seq": 1}))[0][-1:]
    except TimeoutError:
        raise HistoryUnavailable("the broker did not answer in time") from None
    except NatsError as error:
        raise HistoryUnavailable(f"the broker could not be asked: {error}") from error
    return sorted(facts, key=lambda fact: fact.at)


async def _ask(nc: BrokerClient, request: dict[str, Any]) -> tuple[list[Fact], set[str]]:
    """Make a direct get for up to MOST_FACTS messages; return their facts, and the subjects of foreign messages.

    Raises HistoryUnavailable if the server refuses it; the client's errors.
    """
    inbox = nc.new_inbox()
    facts: list[Fact] = []
    foreign: set[str] = set()
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(_: bytes, __: bytes, body: bytes, head: bytes) -> None:
        if b"\r\nNats-Subject: " not in head:
            _end(end, status(head)[0])
            return
        # The server's own headers come last: a foreign message may have some of the same names.
        subject = head.rpartition(b"\r\nNats-Subject: ")[2].partition(b"\r\n")[0].decode(errors="backslashreplace")
        try:
            origin(subject, header(head, _MSG_ID), head, body)
            facts.append(decode(body))
        except (ForeignMessage, msgspec.DecodeError):
            foreign.add(subject)

    subscription = await nc.listen(inbox, take)
    try:
        await nc.publish(f"$JS.API.DIRECT.GET.{EVENTS}", msgspec.json.encode({**request, "batch": MOST_FACTS}), inbox)
        await end
    finally:
        with suppress(NatsError):
            await nc.unlisten(subscription)
    return facts, foreign


def _end(end: asyncio.Future[None], code: str) -> None:
    if end.done():
        return
    if code in ("204", "404"):  # 204: the last message was sent; 404: there is none
        end.set_result(None)
    else:
        end.set_exception(HistoryUnavailable(f"the broker answered {code}"))


@cache
def _names(key_field: str) -> list[str]:
    return [name for name, fact in FACTS.items() if fact.key_field == key_field]
