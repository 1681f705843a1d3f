"""The message of the stream DEAD that holds a dead letter: its headers are written here, and read again.

Its subject is `dead.<listener>.<key>`, and its body is the original one's first MAX_BODY bytes. All else is in its
headers: ASCII of a bounded size. What is read may have been written by anybody, so reading never raises.
"""

import re
import traceback
from datetime import UTC, datetime
from typing import Final, NamedTuple

from infra.broker.client import header
from infra.broker.stored import StoredMessage
from infra.broker.streams import MAX_FACT_BYTES
from infra.consuming.dead_letter import PREFIX, DeadLetter
from infra.core.messages import StreamPosition
from infra.timestamps import instant

MAX_BODY: Final = MAX_FACT_BYTES
"""Bytes of a body that are kept. No larger message can be a fact."""

MOST: Final = {"Error": 2_048, "Stack": 8_192, "Subject": 5_120, "Fact-Id": 1_024, "Headers": 16_384}
"""Bytes that a header's value may have. The server takes 64 KiB for all headers."""

LARGEST_MESSAGE: Final = MAX_BODY + sum(MOST.values()) + 1_024
"""Bytes of the largest message that is written, its headers included."""

MAX_ERROR: Final = 1_024  # characters
MAX_STACK: Final = 8_192  # characters; the end of it
LARGEST: Final = 2**63  # numbers below this are read

_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([\\nrt]))")
_SHORT: Final = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


class _Cut(NamedTuple):
    """A text as it is written, and whether its end (of a stack: its beginning) is missing."""

    text: str
    cut: bool


def error_text(error: BaseException) -> str:
    """Return `Type: text` of the error; of a longer one MAX_ERROR characters, and then how many more there are.

    Never raises: if the error's `__str__` does, the text is left out.
    """
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = type(error).__name__
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}… ({len(text) - MAX_ERROR} characters more)"


def traceback_text(error: BaseException) -> str:
    """Return the end of the error's stack, at most MAX_STACK characters.

    Never raises: if the stack cannot be shown, a sentence says so.
    """
    try:
        return "".join(traceback.format_exception(error))[-MAX_STACK:]
    except Exception:
        return f"the stack of {type(error).__name__} cannot be shown"


def headers_of(dead_letter: DeadLetter) -> dict[str, str]:
    """Return the headers of the dead letter's message in DEAD, in ASCII and cut to MOST; an empty field has no header.

    One header has all the original headers as its value: as headers of their own the server would act on some of them.
    `Dead-Cut` names what is cut here, except the stack; if that is nothing, it has `dead_letter.cut`.
    """
    values = {
        "Error": dead_letter.error,
        "Stack": dead_letter.stack,
        "Subject": dead_letter.subject,
        "Fact-Id": dead_letter.fact_id,
        "Headers": dead_letter.head.decode("latin-1"),
    }
    written = {name: _escaped(value, MOST[name], keep_end=name == "Stack") for name, value in values.items() if value}
    cut = [name for name, value in written.items() if value.cut and name != "Stack"]
    if len(dead_letter.body) > MAX_BODY:
        cut.append("Body")
    headers = {
        "At": dead_letter.at.isoformat(),
        "Attempts": str(dead_letter.attempts),
        "Sequence": str(dead_letter.origin.sequence),
        "Stored": str(dead_letter.origin.stored_us),
        "Cut": " ".join(cut) or dead_letter.cut,
        **{name: value.text for name, value in written.items()},
    }
    return {f"Dead-{name}": value for name, value in headers.items() if value}


def parsed(message: StoredMessage, *, whole: bool = True) -> DeadLetter:
    """Return the dead letter that a message of DEAD holds. Any publisher's message there counts as one.

    A field that is missing or unreadable is empty or 0. Such an `at` is when the broker stored the message. Without
    `whole`, body and stack are empty. Never raises.
    """

    def value_of(name: str) -> str:
        return _unescaped(header(message.raw_headers, b"Dead-" + name.encode()))

    def number(name: str) -> int:
        digits = value_of(name)
        found = int(digits) if digits.isdecimal() and len(digits) < 20 else 0
        return found if found < LARGEST else 0

    consumer, _, key = message.subject.partition(".")[2].partition(".")
    return DeadLetter(
        sequence=message.sequence,
        consumer=consumer,
        key=key,
        at=_instant(value_of("At")) or instant(message.stored_us),
        attempts=number("Attempts"),
        error=value_of("Error"),
        stack=value_of("Stack") if whole else "",
        subject=value_of("Subject"),
        fact_id=value_of("Fact-Id"),
        origin=StreamPosition(number("Sequence"), number("Stored")),
        head=value_of("Headers").encode("latin-1", "backslashreplace"),
        body=message.body if whole else b"",
        cut=value_of("Cut"),
    )


def subject_of(dead_letter: DeadLetter) -> str:
    return f"{PREFIX}.{dead_letter.consumer}.{dead_letter.key}"


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _escaped(text: str, most: int, *, keep_end: bool) -> _Cut:
    """Escape a text to one line of ASCII, as Python's string literals do, in at most `most` bytes.

    A longer text loses its end, or with `keep_end` its beginning.
    """
    kept = text
    while len(found := kept.encode("unicode_escape")) > most:
        left = min(most, len(kept) * most // len(found))  # fewer each time, as `found` is too long
        kept = kept[len(kept) - left :] if keep_end else kept[:left]
    return _Cut(found.decode(), len(kept) < len(text))


def _unescaped(text: str) -> str:
    """Undo `_escaped`. An unknown escape, and that of a lone surrogate, stays as it is."""
    return _ESCAPE.sub(_character, text)


def _character(found: re.Match[str]) -> str:
    two, four, eight, short = found.groups()
    if short:
        return _SHORT[short]
    code = int(two or four or eight, 16)
    return found[0] if code > 0x10FFFF or 0xD800 <= code < 0xE000 else chr(code)
