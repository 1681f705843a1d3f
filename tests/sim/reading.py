"""The modelled server's answers to readers of a stream: by JetStream's API, and directly."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from infra.broker.client import VERSION_LINE
from infra.broker.stored import ANSWERED_BY, StoredMessage
from infra.timestamps import instant

Request = dict[str, Any]
"""What a reader asks for: the message at `seq`, the last one on a subject or on each of some, or the next ones on a
subject."""

Answers = Iterator[tuple[bytes, bytes]]
"""Headers and body of each answer."""

NO_STREAM: Final = b'{"error":{"code":404,"err_code":10059,"description":"stream not found"}}'
NO_MESSAGE: Final = b'{"error":{"code":404,"err_code":10037,"description":"no message found"}}'


def is_on(subject: str, pattern: str) -> bool:
    """Whether this subject fits a pattern, whose last token may be a wildcard."""
    prefix = pattern.rstrip("*>")
    return subject.startswith(prefix) if prefix != pattern else subject == pattern


def selected(messages: Sequence[StoredMessage], wanted: Request) -> list[StoredMessage]:
    """The messages that are asked for, of the stream's in their order."""
    if "last_by_subj" in wanted:
        return next(([one] for one in reversed(messages) if is_on(one.subject, wanted["last_by_subj"])), [])
    if "multi_last" in wanted:
        last = {one.subject: one for one in messages if one.subject in wanted["multi_last"]}
        return sorted(last.values(), key=lambda one: one.sequence)
    if "next_by_subj" in wanted:
        first, pattern = wanted["seq"], wanted["next_by_subj"]
        return [one for one in messages if one.sequence >= first and is_on(one.subject, pattern)]
    return [one for one in messages if one.sequence == wanted["seq"]]


def by_api(messages: Sequence[StoredMessage], request: bytes) -> bytes:
    found = selected(messages, msgspec.json.decode(request))
    if not found:
        return NO_MESSAGE
    sequence, subject, body, raw, _ = found[0]
    message = {"seq": sequence, "subject": subject, "time": instant(found[0].stored_us), "hdrs": raw, "data": body}
    return msgspec.json.encode({"message": {name: value for name, value in message.items() if value != b""}})


def directly(stream: str, messages: Sequence[StoredMessage], subject: str, request: bytes) -> Answers:
    """`stream`: the one that answers. `subject`: that of the request.

    If the request is empty, its subject ends with the one whose last message is asked for.
    """
    last = {"last_by_subj": subject.split(".", 5)[-1]}
    wanted: Request = msgspec.json.decode(request) if request else last
    found = selected(messages, wanted)
    batch = wanted.get("batch", 1)
    for one in found[:batch]:
        own = one.raw_headers.removesuffix(b"\r\n") or f"{VERSION_LINE}\r\n".encode()
        added = (
            f"{ANSWERED_BY}: {stream}\r\nNats-Subject: {one.subject}\r\nNats-Sequence: {one.sequence}\r\n"
            f"Nats-Time-Stamp: {instant(one.stored_us).isoformat()}\r\n\r\n"
        )
        yield own + added.encode(), one.body
    if not found:
        yield f"{VERSION_LINE} 404 Message Not Found\r\n\r\n".encode(), b""
    elif "batch" in wanted:
        more = max(0, len(found) - batch)
        yield f"{VERSION_LINE} 204 EOB\r\nNats-Num-Pending: {more}\r\n\r\n".encode(), b""
