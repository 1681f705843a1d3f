"""Reads the dead letters from the stream DEAD and shows them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nats.js.errors import NotFoundError
from rich.table import Table

from infra.consuming.dead_letter import DEAD, PREFIX, DeadLetter, parsed, read
from ops import reading


async def all_of(env: Mapping[str, str], consumer: str | None = None, key: str | None = None) -> list[DeadLetter]:
    """All dead letters (of a consumer, of a key), in the order of DEAD. Raises Unreachable, SettingsError."""
    async with reading.stream(env) as stream:
        return [letter async for letter in read(stream.js, f"{PREFIX}.{consumer or '*'}.{key or '*'}")]


async def one(env: Mapping[str, str], sequence: int) -> DeadLetter | None:
    """The dead letter at this sequence of DEAD. Raises Unreachable, SettingsError."""
    async with reading.stream(env) as stream:
        try:
            return parsed(await stream.js.get_msg(DEAD, sequence))
        except NotFoundError:
            return None


def as_json(letter: DeadLetter) -> dict[str, Any]:
    """The dead letter for JSON. `body` and `head` are text; bytes that are not UTF-8 are escaped."""
    told = letter._asdict()
    told["at"] = letter.at.isoformat()
    told["origin"] = letter.origin._asdict()
    for name in ("body", "head"):
        told[name] = getattr(letter, name).decode(errors="backslashreplace")
    return told


def table(letters: list[DeadLetter]) -> Table:
    """The dead letters for a person, one line each; those that were never tried are dim."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("sequence", "consumer", "key", "message", "dead-lettered", "attempts", "why"):
        made.add_column(name, justify="right" if name in ("sequence", "attempts") else "left", overflow="fold")
    for letter in letters:
        made.add_row(
            str(letter.sequence),
            letter.consumer,
            letter.key,
            letter.subject.rpartition(".")[0] or letter.subject,
            _ago(letter.at),
            str(letter.attempts) if letter.attempts else "",
            letter.error,
            style=None if letter.attempts else "dim",
        )
    return made


def _ago(at: datetime) -> str:
    seconds = int((datetime.now(UTC) - at).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def lines(letter: DeadLetter) -> str:
    """Everything about one dead letter, for a person."""
    told = as_json(letter)
    stack, head, body = told.pop("stack"), told.pop("head"), told.pop("body")
    origin = letter.origin
    told["origin"] = f"sequence {origin.sequence} of EVENTS"
    width = max(map(len, told))
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in told.items())
    return f"{text}\n\n{stack or 'never tried'}\n{head.strip() or 'no headers'}\n\n{body}"
