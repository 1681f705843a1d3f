"""Turns a message into a line of JSON for the archive, and back into the same bytes; matches subjects with filters.

People can read the lines with `zcat` and `jq`: what is UTF-8 text in the message is text in its line.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec


class ArchivedMessage(NamedTuple):
    """A message of the stream. `head`: its raw headers, with NATS's version line; empty without headers.

    `stored_ns`: when the broker stored it, in nanoseconds since 1970 (UTC).
    """

    sequence: int
    subject: str
    body: bytes
    head: bytes
    stored_ns: int


class _Line(msgspec.Struct, omit_defaults=True):
    sequence: int
    stored_ns: int
    subject: str
    head: str | None = None
    body: str | None = None
    raw_head: bytes | None = None
    """Headers that are not UTF-8, in base64; `raw_body` alike."""
    raw_body: bytes | None = None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Line)


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def line(message: ArchivedMessage) -> bytes:
    """Encode the message as one line, with the line feed at its end."""
    made = _Line(message.sequence, message.stored_ns, message.subject, _text(message.head), _text(message.body))
    if made.head is None:
        made.raw_head = message.head
    if made.body is None:
        made.raw_body = message.body
    return _encoder.encode(made) + b"\n"


def messages(lines: Iterable[bytes]) -> list[ArchivedMessage]:
    """Decode lines. Raises msgspec.DecodeError, UnicodeDecodeError, RecursionError."""
    return [_message(one) for one in map(_decoder.decode, lines)]


def _message(told: _Line) -> ArchivedMessage:
    head = (told.raw_head or b"") if told.head is None else told.head.encode()
    body = (told.raw_body or b"") if told.body is None else told.body.encode()
    return ArchivedMessage(told.sequence, told.subject, body, head, told.stored_ns)


def key_of(subject: str) -> str:
    """Return the subject's last token, the key by which the archive's index finds a message."""
    return subject.rpartition(".")[2]


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject filter of NATS matches this subject."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(wanted) == len(tokens) and all(one in ("*", token) for one, token in zip(wanted, tokens, strict=True))
