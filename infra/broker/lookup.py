"""Reads the stream on demand, in all its generations: the newest messages of subjects, the newest facts of one key."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from itertools import chain
from typing import Any, Final

import msgspec
from nats.errors import Error as NatsError

from contracts.fact import Fact
from contracts.newer import OfNewerCode
from contracts.origin import ForeignMessage, origin
from contracts.wire import FACTS, MSG_ID, decode
from infra.archive.errors import ArchiveDamaged
from infra.archive.folder import Archive
from infra.broker.client import BrokerClient, header
from infra.broker.errors import HistoryUnavailable
from infra.broker.floor import archive_of
from infra.broker.leader import TRIES
from infra.broker.numbering import EVENTS
from infra.broker.stored import StoredMessage, direct
from infra.settings import Settings

TIMEOUT_S: Final = 1.0
MOST_FACTS: Final = 1_000

_MSG_ID: Final = MSG_ID.encode()


async def latest_facts(nc: BrokerClient, key_field: str, key: str, streams: Sequence[str] = (EVENTS,)) -> list[Fact]:
    """Return the facts published under this key, sorted by `at`; of facts with the same name only the last published.

    Only facts whose key is their field `key_field` are looked up, and foreign messages are passed over. Empty if there
    is none. `streams` are the generations, newest first. Raises HistoryUnavailable, after two seconds at the latest.

    The subjects are spelled out, because the cost of the wildcard `*.*.<key>` grows with the history. A foreign message
    that is the last of its subject costs another request to each generation.
    """
    messages = await latest_messages(nc, [f"{name}.{key}" for name in _names(key_field)], streams)
    facts, foreign = _split(messages)
    for subject in sorted(foreign):
        facts += _split(await messages_on(nc, subject, streams))[0][-1:]
    return sorted(facts, key=lambda fact: fact.at)


async def messages_on(nc: BrokerClient, subject: str, streams: Sequence[str] = (EVENTS,)) -> list[StoredMessage]:
    """Return the messages on this subject, by sequence, of each generation at most MOST_FACTS; no wildcards.

    `streams` are the generations, the newest first. Raises HistoryUnavailable, after a second at the latest.
    """
    async with _translated():
        found: list[StoredMessage] = []
        for stream in reversed(streams):
            found += (await _ask(nc, stream, {"next_by_subj": subject, "seq": 1}))[0]
        return found


async def archived_facts(settings: Settings, key_field: str, key: str) -> list[Fact]:
    """Return the facts under this key that are archived, as `latest_facts` does of the stream.

    Raises HistoryUnavailable if the archive cannot be read.
    """
    found = await archived_messages(archive_of(settings), [f"{name}.{key}" for name in _names(key_field)])
    last = {fact.__class__: fact for fact in _split(found)[0]}
    return sorted(last.values(), key=lambda fact: fact.at)


async def archived_messages(archive: Archive, subjects: Sequence[str]) -> list[StoredMessage]:
    """Return all archived messages on these subjects, by sequence; no wildcards.

    Raises HistoryUnavailable if the archive cannot be read.
    """
    return await asyncio.to_thread(_archived_messages, archive, subjects)


def _archived_messages(archive: Archive, subjects: Sequence[str]) -> list[StoredMessage]:
    try:
        return [
            StoredMessage(one.sequence, one.subject, one.body, one.head, one.stored_ns)
            for manifest in archive.manifests
            for messages in archive.read(manifest, subjects)
            for one in messages
        ]
    except ArchiveDamaged as error:
        raise HistoryUnavailable(str(error)) from error


async def latest_messages(
    nc: BrokerClient, subjects: Sequence[str], streams: Sequence[str] = (EVENTS,)
) -> list[StoredMessage]:
    """Return the last message of each of these subjects that has one, by sequence.

    At most MOST_FACTS subjects, no wildcards. `streams` are the generations, the newest first; all are asked at the
    same time. One request each: `multi_last` of the server's direct get. If a mirror answers, or there is nothing,
    which a mirror may have said, the request is made again: TRIES times in all at most. Raises HistoryUnavailable,
    after a second at the latest.
    """
    async with _translated():
        found = await asyncio.gather(*(_latest(nc, stream, subjects) for stream in streams))
    newest: dict[str, StoredMessage] = {}
    for message in chain.from_iterable(found):
        newest.setdefault(message.subject, message)
    return sorted(newest.values(), key=lambda message: message.sequence)


async def _latest(nc: BrokerClient, stream: str, subjects: Sequence[str]) -> list[StoredMessage]:
    for _ in range(TRIES):
        found, whole = await _ask(nc, stream, {"multi_last": list(subjects)})
        if whole and found:
            break
    if not whole:
        raise HistoryUnavailable(f"a mirror answers in place of {stream}")
    return found


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Limit the block to TIMEOUT_S, and raise HistoryUnavailable for that and for the client's errors."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield
    except TimeoutError:
        raise HistoryUnavailable("the broker did not answer in time") from None
    except NatsError as error:
        raise HistoryUnavailable(f"the broker could not be asked: {error}") from error


def _split(messages: Sequence[StoredMessage]) -> tuple[list[Fact], set[str]]:
    """Return the facts in these messages, and the subjects of those that are foreign.

    Raises HistoryUnavailable for a fact of newer code: a history without it would be another one.
    """
    facts: list[Fact] = []
    foreign: set[str] = set()
    for message in messages:
        try:
            origin(message.subject, header(message.raw_headers, _MSG_ID), message.raw_headers, message.body)
            facts.append(decode(message.body))
        except OfNewerCode as error:
            raise HistoryUnavailable(f"{message.subject} at sequence {message.sequence}: {error}") from error
        except (ForeignMessage, msgspec.DecodeError):
            foreign.add(message.subject)
    return facts, foreign


async def _ask(nc: BrokerClient, stream: str, request: dict[str, Any]) -> tuple[list[StoredMessage], bool]:
    """Make a direct get for up to MOST_FACTS messages; return them, and whether no mirror gave any of them.

    Raises HistoryUnavailable if the server refuses it; TimeoutError, the client's errors.
    """
    answer = await direct(nc, stream, {**request, "batch": MOST_FACTS})
    if answer.code not in ("204", "404"):  # 204: the last message was sent; 404: there is none
        raise HistoryUnavailable(f"the broker answered {answer.code}")
    return answer.messages, answer.answered_by <= {stream}


@cache
def _names(key_field: str) -> list[str]:
    return [name for name, fact in FACTS.items() if fact.key_field == key_field]
