"""Reads the stream EVENTS on demand: the newest messages of given subjects, and the newest facts of one key."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
from nats.errors import Error as NatsError

from contracts.fact import Fact
from contracts.wire import FACTS, decode
from infra.broker.client import BrokerClient, header, status
from infra.broker.errors import HistoryUnavailable
from infra.broker.leader import ANSWERED_BY, TRIES
from infra.broker.streams import EVENTS

TIMEOUT_S: Final = 1.0
MOST_FACTS: Final = 1_000

_SUBJECT: Final = b"\r\nNats-Subject: "
_SEQUENCE: Final = b"\r\nNats-Sequence: "


class LatestMessage(NamedTuple):
    """A message of EVENTS as the broker has it, with its raw headers and those that the broker adds."""

    subject: str
    sequence: int
    raw_headers: bytes
    body: bytes


async def latest_facts(nc: BrokerClient, key_field: str, key: str) -> list[Fact]:
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


async def latest_messages(nc: BrokerClient, subjects: Sequence[str]) -> list[LatestMessage]:
    """Return the last message of each of these subjects that has one; at most MOST_FACTS subjects, no wildcards.

    One request: `multi_last` of the server's direct get. If a mirror of EVENTS answers, or there is nothing, which a
    mirror may have said, the request is repeated up to TRIES times. Raises HistoryUnavailable, after a second at the
    latest.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(TRIES):
                found, whole = await _ask(nc, {"multi_last": list(subjects)})
                if whole and found:
                    break
    except TimeoutError:
        raise HistoryUnavailable("the broker did not answer in time") from None
    except NatsError as error:
        raise HistoryUnavailable(f"the broker could not be asked: {error}") from error
    if not whole:
        raise HistoryUnavailable(f"a mirror answers in place of {EVENTS}")
    return found


async def _ask(nc: BrokerClient, request: dict[str, Any]) -> tuple[list[LatestMessage], bool]:
    """Make a direct get for up to MOST_FACTS messages; return them, and whether EVENTS itself answered, not a mirror.

    Raises HistoryUnavailable if the server refuses it; the client's errors.
    """
    inbox = nc.new_inbox()
    found: list[LatestMessage] = []
    others: set[str] = set()
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(_: bytes, __: bytes, body: bytes, raw_headers: bytes) -> None:
        if _SUBJECT not in raw_headers:
            _end(end, status(raw_headers)[0])
            return
        others.update({header(raw_headers, ANSWERED_BY.encode())} - {EVENTS})
        # The server's own headers come last: a foreign message may have some of the same names.
        subject, sequence = (
            raw_headers.rpartition(name)[2].partition(b"\r\n")[0].decode(errors="backslashreplace")
            for name in (_SUBJECT, _SEQUENCE)
        )
        found.append(LatestMessage(subject, int(sequence), raw_headers, body))

    subscription = await nc.listen(inbox, take)
    try:
        await nc.publish(f"$JS.API.DIRECT.GET.{EVENTS}", msgspec.json.encode({**request, "batch": MOST_FACTS}), inbox)
        await end
    finally:
        with suppress(NatsError):
            await nc.unlisten(subscription)
    return found, not others


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
