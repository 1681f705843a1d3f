"""Reads the dead letters from the stream DEAD and shows them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from nats.js.errors import NotFoundError
from rich.table import Table

from contracts.origin import ForeignMessage, header, origin
from contracts.wire import STREAM
from infra.broker.numbering import stream_of_sequence
from infra.broker.stored import stored_message
from infra.consuming.dead_letter import DEAD, PREFIX, DeadLetter
from infra.consuming.dead_letter_message import parsed
from infra.consuming.redrive_notes import RedriveNote, by_letter, note_in
from infra.consuming.stored_dead_letters import read, read_notes
from infra.counts import count_of
from infra.http.operators.dead_letter_bodies import RedriveOutcomes
from infra.printable import printable
from ops import reading
from ops.client import ServiceAddress, ServiceAnswer, ServiceRequest
from ops.details import shown_time
from ops.errors import Unreachable
from ops.output import cell

LONGEST: Final = 200  # characters of a cell
TIMEOUT_S: Final = 30.0
"""How long a service is waited for: it may have many dead letters of a key to handle."""


async def all_of(env: Mapping[str, str], consumer: str | None = None, key: str | None = None) -> list[DeadLetter]:
    """Read the dead letters from the broker that `env` names, in the order of DEAD; without a stream DEAD, none.

    `consumer`, `key`: only those of this consumer, of this key; None or empty: all. Both are in a subject filter, so
    `*` in either, and `>` in `key`, is a wildcard. Raises Unreachable, SettingsError.
    """
    subject = f"{PREFIX}.{consumer or '*'}.{key or '*'}" if consumer or key else f"{PREFIX}.>"
    async with reading.stream(env) as stream:
        return [letter async for letter in read(stream.nc, subject)]


async def notes(env: Mapping[str, str]) -> dict[int, RedriveNote]:
    """Read from DEAD how often dead letters were redriven in vain: sequence of a dead letter → note.

    Dead letters without such a redrive have no note.

    Raises Unreachable, SettingsError.
    """
    async with reading.stream(env) as stream:
        return by_letter([note async for note in read_notes(stream.nc)])


async def one(env: Mapping[str, str], sequence: int) -> DeadLetter | None:
    """Read the dead letter at this sequence of DEAD; None if there is none. Raises Unreachable, SettingsError."""
    async with reading.stream(env) as stream:
        with suppress(NotFoundError):  # there is no stream DEAD yet
            message = await stored_message(stream.nc, DEAD, sequence)
            return None if message is None or note_in(message) else parsed(message)
    return None


def service_of(consumer: str) -> str:
    """Return the service (without `_svc`) whose consumer this is."""
    return consumer.partition("-")[0]


def service_request(
    services: Mapping[str, ServiceAddress], consumer: str, what: str, body: Mapping[str, Any]
) -> ServiceRequest | None:
    """Return the request for `what` (redrive or drop) to the service of this consumer.

    None: `services` has no such service.
    """
    service = services.get(service_of(consumer))
    return None if service is None else ServiceRequest(service, "POST", f"/ops/dead-letters/{what}", body)


def redrive_body(consumer: str, key: str, *, dry_run: bool, reason: str, preview: str = "") -> dict[str, Any]:
    """Return the body of a request for a redrive.

    The body has the reason and the preview's hash only if they are not blank and this is no dry run: earlier versions
    of services refuse a body with one of them.
    """
    body = {"consumer": consumer, "key": key, "dry_run": dry_run}
    more = {} if dry_run else {"reason": reason.strip(), "preview": preview}
    return body | {name: value for name, value in more.items() if value}


def outcomes(request: ServiceRequest, answer: ServiceAnswer) -> RedriveOutcomes:
    """Decode the answer to a redrive or a drop. Raises Unreachable if it is something else, as of another program."""
    try:
        return msgspec.convert(answer.body, RedriveOutcomes)
    except msgspec.ValidationError as error:
        raise Unreachable(f"{request.service} answers {request} with something else: {error}") from error


def as_json(letter: DeadLetter, note: RedriveNote | None = None) -> dict[str, Any]:
    """Return the dead letter's fields by name, as values that JSON can have; `redriven` has the note's, or is None.

    `at` is text in ISO 8601. `body` and `head` are text, in which bytes that are not UTF-8 are escaped.
    """
    told = letter._asdict()
    told["at"] = letter.at.isoformat()
    told["origin"] = letter.origin._asdict()
    for name in ("body", "head"):
        told[name] = getattr(letter, name).decode(errors="backslashreplace")
    return {**told, "redriven": None if note is None else msgspec.to_builtins(note)}


def table(letters: list[DeadLetter], notes: Mapping[int, RedriveNote]) -> Table:
    """Return the dead letters as a table for a person, a row for each; those that were never tried are dim."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("sequence", "consumer", "key", "message", "dead-lettered", "attempts", "redriven", "why"):
        numbers = name in ("sequence", "attempts", "redriven")
        made.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for letter in letters:
        made.add_row(
            str(letter.sequence),
            cell(letter.consumer),
            cell(letter.key),
            cell(letter.subject.rpartition(".")[0] or letter.subject),
            _ago(letter.at),
            str(letter.attempts) if letter.attempts else "",
            f"{notes[letter.sequence].times} times" if letter.sequence in notes else "",
            cell(letter.error if len(letter.error) <= LONGEST else f"{letter.error[:LONGEST]}…"),
            style=None if letter.attempts else "dim",
        )
    return made


def how_many(letters: Sequence[DeadLetter]) -> str:
    """Return a sentence: how many dead letters these are, of how many keys and of how many consumers."""
    keys, consumers = {letter.key for letter in letters}, {letter.consumer for letter in letters}
    told = f"{count_of(len(letters), 'dead letter')} of {count_of(len(keys), 'key')}"
    return f"{told} of {count_of(len(consumers), 'consumer')}; later messages of a consumer's key wait with it"


def _ago(at: datetime) -> str:
    seconds = max(0, int((datetime.now(UTC) - at).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _foreign(letter: DeadLetter) -> str:
    """Return why no service can have published the dead-lettered message; empty if one can, or if that is unknown.

    It is unknown if the message was not kept whole. A message with the header STREAM counts as a service's.
    """
    if letter.cut or header(letter.head, STREAM.encode()):
        return ""
    try:
        origin(letter.subject, letter.fact_id, letter.head, letter.body)
    except ForeignMessage as why:
        return str(why)
    return ""


def redriven(note: RedriveNote) -> str:
    """Return a text: how often a dead letter was redriven in vain; of the last time, when, why, and its error."""
    why = f", because: {note.reason}" if note.reason else ""
    times = "once" if note.times == 1 else f"{note.times} times, the last"
    return f"{times} at {shown_time(note.at)}{why}; it failed with {note.error}"


def lines(letter: DeadLetter, note: RedriveNote | None = None) -> str:
    """Return everything about one dead letter as text for a person: fields, stack, headers, body."""
    told = as_json(letter)
    told["redriven"] = "never in vain" if note is None else redriven(note)
    stack, head, body = told.pop("stack"), told.pop("head"), told.pop("body")
    origin = letter.origin
    stream = stream_of_sequence(origin.sequence)
    told["origin"] = f"sequence {origin.sequence} of {stream}"
    cut = told.pop("cut")
    if cut:
        told["cut"] = f"{cut}: too large to be kept whole; see `nats stream get {stream} {origin.sequence}`"
    if foreign := _foreign(letter):
        told["next"] = (
            f"foreign, drop it: no service published it, as it {foreign}; no retry can succeed. "
            f"just dlq drop {letter.sequence} --yes"
        )
    width = max(map(len, told))
    text = "\n".join(f"{name:<{width}}  {cell(str(value))}" for name, value in told.items())
    stack, head, body = (printable(part, keep="\n") for part in (stack, head.replace("\r\n", "\n"), body))
    return f"{text}\n\n{stack or 'never tried'}\n{head.strip() or 'no headers'}\n\n{body}"
