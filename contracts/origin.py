"""Tells the messages that a service published from foreign ones, by what those lack.

EVENTS takes messages from everybody who may publish on its subjects, so also from other tools and by mistake.
"""

import re
from typing import Any, Final, NamedTuple

import msgspec

from contracts.fact import DECODE_ERRORS, Fact
from contracts.newer import OfNewerCode
from contracts.wire import (
    FACTS,
    KEY_FIELDS,
    MSG_ID,
    NAMES,
    POSITION,
    STREAM,
    VERSION,
    decode,
    fact_id,
    stream_of,
    token,
)

DIGITS: Final = 15
"""The most digits of a version or position. No log gets that far, so a longer number counts as none."""

REPLAYED: Final = "replay-"
"""Begins the Nats-Msg-Id of a copy by `orders replay --fresh-ids`: services take the copy for the fact it repeats."""


class Origin(NamedTuple):
    """Where a message's fact is recorded: in which stream of an aggregate, and at which position of its service's log.

    `version` and `position` are from 1.
    """

    stream: str
    version: int
    position: int

    @property
    def fact_id(self) -> str:
        return fact_id(self.stream, self.version)


class ForeignMessage(Exception):
    """This message counts as foreign. The text says what is wrong with it, as the rest of a sentence about it."""


_typed: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(
    msgspec.defstruct("_Typed", [("type", str), *((key, Any, None) for key in KEY_FIELDS)])
)
"""Decodes only the field `type` of a body, and the fields that may be its key."""


def header(raw_headers: bytes, name: bytes) -> str:
    """Return the value in the first line `<name>: <value>` of the headers; empty if there is no such line.

    Never raises: any publisher may have sent the message, so bytes that are not UTF-8 are replaced.
    """
    _, found, rest = raw_headers.partition(b"\r\n%b: " % name)
    return rest.partition(b"\r\n")[0].decode(errors="replace") if found else ""


def number(text: str) -> int:
    """Return the version or position that is written as `text`; 0 for any other text.

    A version or position is from 1, without leading zeros, and has at most DIGITS digits.
    """
    return int(text) if text.isascii() and text.isdecimal() and text[0] != "0" and len(text) <= DIGITS else 0


_STREAM: Final = STREAM.encode()
_VERSION: Final = VERSION.encode()
_POSITION: Final = POSITION.encode()
_NUMBER: Final = b"[1-9][0-9]{0,%d}" % (DIGITS - 1)
_RELAYED: Final = re.compile(
    rb"NATS/1\.0\r\n%b: ([^@%%\r]+)@(%b)\r\n%b: \1\r\n%b: \2\r\n%b: %b\r\n\r\n"
    % (MSG_ID.encode(), _NUMBER, _STREAM, _VERSION, _POSITION, _NUMBER)
).fullmatch
"""Matches the headers that a relay writes, except those of a stream whose name needs escapes."""


def origin(published_on: str, message_id: str, raw_headers: bytes, body: bytes) -> Origin:
    """Return where the fact in a message of EVENTS is recorded, by the message's headers.

    `published_on` is its subject and `message_id` its Nats-Msg-Id; empty if it has none. Raises ForeignMessage if a
    header of a service's fact is missing, its version or position is malformed, `message_id` names another stream or
    version than the headers, or the body does not fit the subject. The body is not decoded as a fact: only its `type`,
    and the key if this code knows the type, have to fit the subject. Fact-Stream is not compared with the body.
    Whether the log really has this fact is not known here.
    """
    return _origin(published_on, message_id, raw_headers, body, replayed=False)


def _origin(published_on: str, message_id: str, raw_headers: bytes, body: bytes, *, replayed: bool) -> Origin:
    """Do what `origin` does. `replayed`: the message is a copy, whose Nats-Msg-Id may be any.

    A copy may also lack the position, which is 0 then.
    """
    value, version = header(raw_headers, _STREAM), number(header(raw_headers, _VERSION))
    position = number(header(raw_headers, _POSITION))
    there = ((STREAM, value), (VERSION, version), (POSITION, position or replayed))
    lacks = [name for name, found in there if not found]
    if lacks:
        raise ForeignMessage(f"lacks the headers that a service gives its facts ({', '.join(lacks)})")
    if not replayed and message_id != fact_id(value, version):
        raise _misfit(message_id)
    if not _fits(published_on, body):
        raise ForeignMessage("has a body that does not fit its subject")
    return Origin(stream_of(value), version, position)


def _fits(published_on: str, body: bytes) -> bool:
    """Whether the body has the type that its subject names and, if this code knows the type, the key."""
    name, _, last = published_on.rpartition(".")
    try:
        typed = _typed.decode(body)
    except DECODE_ERRORS:
        return False
    if typed.type != name or name not in FACTS:
        return bool(typed.type == name)
    key = getattr(typed, FACTS[name].key_field)
    return isinstance(key, str) and token(key) == last


class _InLog(msgspec.Struct):
    order_id: str | None = None
    cause: str | None = None


_in_log: Final = msgspec.json.Decoder(_InLog)


def log_fields(published_on: str, message_id: str, body: bytes) -> dict[str, str]:
    """Return the fields of a log line about a message: its `subject`; and `fact_id`, `cause` and `order_id`.

    `fact_id` is `message_id` as given, and left out if empty. The other two are the body's, and left out if the body
    lacks them or cannot be decoded. Anybody may have sent the message, so this never raises.
    """
    try:
        found = _in_log.decode(body)
    except DECODE_ERRORS:
        found = _InLog()
    fields = {"fact_id": message_id or None, "cause": found.cause, "order_id": found.order_id}
    return {"subject": published_on} | {name: value for name, value in fields.items() if value is not None}


def heard(published_on: str, message_id: str, raw_headers: bytes, body: bytes) -> tuple[Fact, str]:
    """Return the fact that a service hears in a message, and its id; see `heard_id`.

    Raises msgspec.DecodeError for a body that is no fact, also in a foreign message; ForeignMessage for any other
    foreign message; OfNewerCode, a DecodeError, for a service's fact of newer code, or a copy of that fact by
    `orders replay --fresh-ids`.
    """
    try:
        fact = decode(body)
    except OfNewerCode:
        replayed = message_id.startswith(REPLAYED)
        _origin(published_on, message_id, raw_headers, body, replayed=replayed)  # no foreign message is of newer code
        raise
    return fact, heard_id(fact, published_on, message_id, raw_headers)


def heard_id(fact: Fact, published_on: str, message_id: str, raw_headers: bytes) -> str:
    """Return the id of the fact that a service hears in a message with these headers: `<stream>@<version>`.

    Raises ForeignMessage where `origin` does, and unless Fact-Stream is the fact's `stream` or `earlier_stream`; costs
    less than `origin`. Only a copy by `orders replay --fresh-ids` may have a Nats-Msg-Id of its own, which begins with
    REPLAYED, and no Fact-Position.
    """
    stream = fact.stream
    if published_on != f"{NAMES[type(fact)]}.{token(getattr(fact, fact.key_field))}":
        raise ForeignMessage("has a body that does not fit its subject")
    relayed = _RELAYED(raw_headers)
    if relayed is not None and (relayed[1] == stream.encode() or relayed[1] == fact.earlier_stream.encode()):
        return message_id
    value, version = header(raw_headers, _STREAM), number(header(raw_headers, _VERSION))
    replayed = message_id.startswith(REPLAYED)
    if not value or not version or not (replayed or number(header(raw_headers, _POSITION))):
        raise ForeignMessage(f"lacks the headers that a service gives its facts ({STREAM}, {VERSION}, {POSITION})")
    if not replayed and message_id != fact_id(value, version):
        raise _misfit(message_id)
    recorded_in = stream_of(value)
    if recorded_in not in (stream, fact.earlier_stream):
        raise ForeignMessage(f"has a body that does not fit its {STREAM}")
    return fact_id(recorded_in, version)


def _misfit(message_id: str) -> ForeignMessage:
    return ForeignMessage(f"has {MSG_ID} {message_id[:80]!a}, which does not fit its {STREAM} and {VERSION}")
