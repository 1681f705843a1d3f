"""Reads stream and archive on demand: the last message of each subject, the last fact of each name under one key.

Only archived_messages returns all messages of its subjects.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec
from nats.errors import Error as NatsError

from contracts.fact import Fact
from contracts.newer import OfNewerCode
from contracts.origin import ForeignMessage, origin
from contracts.wire import FACTS, MSG_ID, decode
from infra.archive.errors import ArchiveDamaged
from infra.archive.reader import Archive
from infra.broker.client import BrokerClient, header
from infra.broker.errors import HistoryUnavailable
from infra.broker.floor import archive_of
from infra.broker.leader import TRIES
from infra.broker.numbering import EVENTS
from infra.broker.stored import StoredMessage, direct
from infra.settings import Settings

TIMEOUT_S: Final = 1.0
ARCHIVE_TIMEOUT_S: Final = 10.0
"""An archive in a bucket may first have to be fetched in part."""
MOST_FACTS: Final = 1_000

_MSG_ID: Final = MSG_ID.encode()
_LITERAL: Final = re.compile(r"[\w.-]+", re.ASCII)
_subject: Final = attrgetter("subject")
_sure_subjects: Final = WeakKeyDictionary[BrokerClient, dict[str, str]]()
"""By connection and generation: a subject on which that has a message."""


async def latest_facts(nc: BrokerClient, key_field: str, key: str, streams: Sequence[str] = (EVENTS,)) -> list[Fact]:
    """Return the facts that `streams` have under this key, sorted by `at`; of one name only the last published.

    Only facts whose key is their field `key_field` are looked up, and foreign messages are passed over. Empty if there
    is none. `streams` are the generations, newest first. Raises HistoryUnavailable, after a second at the latest,
    also for a fact of newer code.

    The subjects are spelled out, because the cost of the wildcard `*.*.<key>` grows with the history. A foreign message
    that is the last of its subject costs more requests: all of the subject is read, the newest generation first, up to
    the first generation with a fact of it.
    """
    subjects = [f"{name}.{key}" for name in _names(key_field)]
    facts = [decode(message.body) for message in await _last_ones(nc, subjects, streams, _is_fact)]
    return sorted(facts, key=lambda fact: fact.at)


async def archived_facts(settings: Settings, key_field: str, key: str) -> list[Fact]:
    """Return the facts under this key that are archived, as `latest_facts` does of the stream.

    Of a bucket they are those of the last look. Raises HistoryUnavailable if the archive cannot be read, after
    ARCHIVE_TIMEOUT_S at the latest, or a fact is of newer code.
    """
    found = await archived_messages(archive_of(settings), [f"{name}.{key}" for name in _names(key_field)])
    last = {fact.__class__: fact for fact in (decode(one.body) for one in found if _is_fact(one))}
    return sorted(last.values(), key=lambda fact: fact.at)


async def archived_messages(archive: Archive, subjects: Sequence[str]) -> list[StoredMessage]:
    """Return the archived messages of services on these subjects (none: on all), by sequence; no wildcards.

    Foreign messages are passed over. Of a bucket they are those of the last look: the caller looks before. Raises
    HistoryUnavailable if the archive cannot be read, after ARCHIVE_TIMEOUT_S at the latest.
    """
    try:
        async with asyncio.timeout(ARCHIVE_TIMEOUT_S):
            return await asyncio.to_thread(_archived_messages, archive, subjects)
    except TimeoutError:
        raise HistoryUnavailable("the archive did not answer in time") from None


def _archived_messages(archive: Archive, subjects: Sequence[str]) -> list[StoredMessage]:
    try:
        found = (
            StoredMessage(one.sequence, one.subject, one.body, one.head, one.stored_ns)
            for manifest in archive.manifests
            for messages in archive.read(manifest, subjects)
            for one in messages
        )
        return [message for message in found if _is_services(message)]
    except ArchiveDamaged as error:
        raise HistoryUnavailable(str(error)) from error


async def latest_messages(
    nc: BrokerClient, subjects: Sequence[str], streams: Sequence[str] = (EVENTS,)
) -> list[StoredMessage]:
    """Return the last message that a service published on each of these subjects, if there is one, by sequence.

    Foreign messages are passed over. At most MOST_FACTS subjects, no wildcards. `streams` are the generations, the
    newest first; all are asked at the same time. Each takes one request (`multi_last` of the server's direct get), but
    up to TRIES if a mirror answers or the generation is empty. It takes more if a foreign message is the last of its
    subject, and one more until the connection knows its first message. Raises HistoryUnavailable, after a second at the
    latest.
    """
    return await _last_ones(nc, subjects, streams, _is_services)


async def _last_ones(
    nc: BrokerClient, subjects: Sequence[str], streams: Sequence[str], fits: Callable[[StoredMessage], bool]
) -> list[StoredMessage]:
    """Return the last message of each subject that fits, by sequence. Raises as `latest_messages`."""
    async with _translated():
        found = await asyncio.gather(*(_latest(nc, stream, subjects) for stream in streams))
        newest: dict[str, StoredMessage] = {}
        for message in chain.from_iterable(found):
            newest.setdefault(message.subject, message)
        fitting = [message for message in newest.values() if fits(message)]
        for subject in sorted(newest.keys() - {message.subject for message in fitting}):
            having = [one for one, its in zip(streams, found, strict=True) if subject in map(_subject, its)]
            for stream in having:
                if (last := await _last_that(nc, stream, subject, fits)) is not None:
                    fitting.append(last)
                    break
    return sorted(fitting, key=lambda message: message.sequence)


async def _last_that(
    nc: BrokerClient, stream: str, subject: str, fits: Callable[[StoredMessage], bool]
) -> StoredMessage | None:
    """Return the last message of this subject that fits, however many after it do not; None if none fits.

    The stream must have messages of this subject. Raises as `_ask`.
    """
    last, first = None, 1
    while True:
        messages, more = await _ask(nc, stream, {"next_by_subj": subject, "seq": first})
        last = next(filter(fits, reversed(messages)), last)
        if not more:
            return last
        first = messages[-1].sequence + 1


async def _latest(nc: BrokerClient, stream: str, subjects: Sequence[str]) -> list[StoredMessage]:
    """Return the last message of each of these subjects in a generation.

    Asks also for a subject that the generation has for sure: an answer without any message is then not the generation's
    own. Raises as `_ask`, and HistoryUnavailable if the answer is not whole.
    """
    wanted, sure = set(subjects), await _sure_subject(nc, stream)
    found, more = await _ask(nc, stream, {"multi_last": sorted(wanted | sure)}, may_have_none=not sure)
    if more:
        raise HistoryUnavailable(f"the broker left {more} messages out of its answer")
    return [message for message in found if message.subject in wanted]


async def _sure_subject(nc: BrokerClient, stream: str) -> set[str]:
    """Return the subject of a generation's first message, as a set of one; else an empty set.

    Empty if the generation is, a mirror answers, or the subject has other characters than ASCII letters, digits, `_`,
    `.` and `-`. A connection asks until the subject is known, and remembers it: nothing is ever deleted from a
    generation. Raises as `direct`.
    """
    known = _sure_subjects.setdefault(nc, {})
    if stream not in known:
        first = await direct(nc, stream, {"seq": 1, "next_by_subj": ">"})
        if first.answered_by != {stream} or not _LITERAL.fullmatch(first.messages[0].subject):
            return set()
        known[stream] = first.messages[0].subject
    return {known[stream]}


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


def _is_services(message: StoredMessage) -> bool:
    """Whether a service published the message: its headers are a relay's, and its body's type and key fit its subject.

    The body is not decoded as a fact; see `contracts.origin.origin`.
    """
    try:
        origin(message.subject, header(message.raw_headers, _MSG_ID), message.raw_headers, message.body)
    except ForeignMessage:
        return False
    return True


def _is_fact(message: StoredMessage) -> bool:
    """Whether a service published the message, and it has a fact that this code knows.

    Raises HistoryUnavailable for a fact of newer code: a history without it would be another one.
    """
    try:
        return _is_services(message) and decode(message.body) is not None
    except OfNewerCode as error:
        raise HistoryUnavailable(f"{message.subject} at sequence {message.sequence}: {error}") from error
    except msgspec.DecodeError:
        return False


async def _ask(
    nc: BrokerClient, stream: str, request: dict[str, Any], *, may_have_none: bool = False
) -> tuple[list[StoredMessage], int]:
    """Make a direct get for all messages that it finds; return them, none of a mirror, and how many more there are.

    One answer has at most MOST_FACTS + 1 messages. If it is a mirror's, or has no messages and so does not say whose it
    is, the request is made again: TRIES times in all at most. With `may_have_none`, the last answer counts though it
    has no messages. Raises HistoryUnavailable if no answer counts, or the server refuses; TimeoutError, the client's
    errors.
    """
    for _ in range(TRIES):
        answer = await direct(nc, stream, {**request, "batch": MOST_FACTS + 1})
        if answer.code not in ("204", "404"):  # 204: the last message was sent; 404: there is none
            raise HistoryUnavailable(f"the broker answered {answer.code}")
        if answer.answered_by == {stream}:
            return answer.messages, answer.pending
    if answer.answered_by or not may_have_none:
        _sure_subjects.pop(nc, None)  # the broker may have lost the stream, and another one has its name
        raise HistoryUnavailable(f"a mirror answers in place of {stream}")
    return [], 0


@cache
def _names(key_field: str) -> list[str]:
    return [name for name, fact in FACTS.items() if fact.key_field == key_field]
