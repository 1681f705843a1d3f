"""A message of the stream as a line of JSON, and back; times and subject filters of NATS."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import IO, Any, Final, NamedTuple

import msgspec

from contracts.fact import DECODE_ERRORS
from infra.broker.client import VERSION_LINE
from ops.errors import Unusable
from ops.reading import Read

SECOND_NS: Final = 1_000_000_000
MAX_LINE_BYTES: Final = 4 << 20
"""Far longer than the line of the largest message that the broker may be set to take by default (1 MiB)."""


class _Fact(msgspec.Struct):
    at: datetime


class ReplayedMessage(NamedTuple):
    """A message as EVENTS or a line has it. `stored_ns`: when the broker stored it, in nanoseconds since 1970 (UTC).

    A broker that lost its store gets again every fact that no archive has, so that time says little about when
    something happened.
    """

    sequence: int
    stored_ns: int
    subject: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def at_ns(self) -> int:
        """The fact's own time, in nanoseconds since 1970 (UTC), or `stored_ns` if the body has no such time."""
        try:
            at = _fact.decode(self.body).at
            return since_1970_ns(at) if at.tzinfo is not None else self.stored_ns
        except DECODE_ERRORS:
            return self.stored_ns


class BadLine(Unusable):
    """A line is not a message as `orders replay` prints it. The error's text has the line's number."""


class _Line(msgspec.Struct, omit_defaults=True):
    sequence: int
    subject: str
    headers: dict[str, str]
    stored: str = ""
    time: str = ""
    """What lines of 0.1.0 have instead of `stored`."""
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    raw: bytes | msgspec.UnsetType = msgspec.UNSET
    """The body in base64, if it is not one line of JSON; then `body` is missing."""


_BREAK: Final = re.compile(r"[\r\n]")
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Line)
_fact: Final = msgspec.json.Decoder(_Fact)


def message(read: Read) -> ReplayedMessage:
    """Make a ReplayedMessage of a message that was read, with its headers parsed.

    Of a foreign message's headers, one without a colon or a name is left out, a line break in one becomes a space, and
    bytes that are not UTF-8 are replaced. If a header comes twice, the last one counts. The body keeps all its bytes.
    """
    text = read.head.decode(errors="replace")
    lines = (_BREAK.sub(" ", line).partition(":") for line in text.split("\r\n")[1:])
    headers = {name.strip(): value.strip() for name, colon, value in lines if colon and name.strip()}
    return ReplayedMessage(read.sequence, read.stored_ns, read.subject, headers, read.body)


def line(told: ReplayedMessage) -> bytes:
    """Encode the message as one line of JSON, without the line feed at its end.

    It contains the body byte for byte, or in base64 if it is not plainly one line of JSON.
    """
    sequence, stored_ns, subject, headers, body = told
    made = _Line(sequence, subject, dict(headers), instant(stored_ns))
    if _is_one_line_of_json(body):
        made.body = msgspec.Raw(body)
    else:
        made.raw = body
    return _encoder.encode(made)


def _is_one_line_of_json(body: bytes) -> bool:
    try:
        body.decode()
        msgspec.json.decode(body)
    except DECODE_ERRORS:
        return False
    return b"\n" not in body and b"\r" not in body and body == body.strip()


def bounded(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file. Raises BadLine if one is longer than MAX_LINE_BYTES."""
    number = 0
    while text := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(text) > MAX_LINE_BYTES:
            raise BadLine(f"line {number}: it has more than {MAX_LINE_BYTES:,} bytes")
        yield text


def parsed(lines: Iterable[bytes]) -> Iterator[tuple[int, ReplayedMessage]]:
    """Yield the number of each line, from 1, and its message. Blank lines are skipped, but counted.

    Raises BadLine at the first bad line.
    """
    for number, text in enumerate(lines, 1):
        if text.strip():
            yield number, _parsed(text, number)


def _parsed(text: bytes, number: int) -> ReplayedMessage:
    try:
        told = _decoder.decode(text)
        stored_ns = nanoseconds(told.stored or told.time)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadLine(f"line {number}: {error}") from error
    body: Any = told.raw if told.body is msgspec.UNSET else bytes(told.body)
    if body is msgspec.UNSET:
        raise BadLine(f"line {number}: it has neither `body` nor `raw`")
    if not is_subject(told.subject):
        raise BadLine(f"line {number}: {told.subject!r} is not a subject that can be published to")
    if any("\r" in text or "\n" in text for pair in told.headers.items() for text in pair):
        raise BadLine(f"line {number}: a header has a line break in it")
    return ReplayedMessage(told.sequence, stored_ns, told.subject, told.headers, body)


def is_subject(text: str) -> bool:
    """Whether this is a subject that can be printed: tokens without wildcards."""
    tokens = text.split(".")
    return is_filter(text) and "*" not in tokens and ">" not in tokens


def is_filter(text: str) -> bool:
    """Whether this is a subject filter of NATS that can be printed, with or without wildcards."""
    tokens = text.split(".")
    return all(token and token.isprintable() and " " not in token for token in tokens) and ">" not in tokens[:-1]


def overlap(one: str, other: str) -> bool:
    """Whether some subject matches both filters. NATS refuses two such filters of one consumer."""
    tokens, others = one.split("."), other.split(".")
    for token, another in zip(tokens, others, strict=False):
        if ">" in (token, another):
            return True
        if token != another and "*" not in (token, another):
            return False
    return len(tokens) == len(others)


def head(headers: Mapping[str, str]) -> str:
    """Encode headers as NATS sends them: version line, one line each, and an empty line."""
    return "".join([f"{VERSION_LINE}\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"])


def instant(since_1970: int) -> str:
    """Format nanoseconds since 1970 as RFC 3339 in UTC, to the nanosecond."""
    seconds, rest = divmod(since_1970, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def nanoseconds(text: str) -> int:
    """Parse a text that `instant` made into nanoseconds since 1970. Raises ValueError if it cannot."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    if not (text.endswith("Z") and len(rest) == 9 and rest.isdecimal()):
        raise ValueError(f"{text!r} is not a time such as 2026-01-31T00:00:00.123456789Z")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * SECOND_NS + int(rest)


def since_1970_ns(at: datetime) -> int:
    """Return the nanoseconds since 1970 of a time with its offset, exact to the microsecond."""
    since = at - datetime.fromtimestamp(0, UTC)
    return (since.days * 86_400 + since.seconds) * SECOND_NS + since.microseconds * 1_000
