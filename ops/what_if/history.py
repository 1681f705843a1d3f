"""The recorded history that is decided again: the protocol to read it by, and a history read from a file."""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION, fact_id, said_by
from infra.store.records import Notification
from ops.errors import Unusable
from ops.replay.lines import BadLine, ReplayedMessage, parsed
from ops.stores import CHUNK
from ops.what_if.difference import id_of


class RecordedHistory(Protocol):
    """The recorded logs of all services. The methods may raise Unreachable."""

    @property
    def ends(self) -> Mapping[str, int]:
        """Map each service to the end of its log for `said`: a position, inclusive; 0 if the log is empty.

        What other services recorded because of facts up to there is in this history, too.
        """

    def log(self, service: str) -> AsyncGenerator[Sequence[Notification]]:
        """Yield a service's whole log in its order, in lists of records. It may go beyond the end in `ends`."""

    def said(self, service: str, topics: Collection[str]) -> AsyncGenerator[Sequence[Notification]]:
        """Yield a service's records with these names of facts, up to its end in `ends`, in the order of its log.

        They come in lists, which may be empty.
        """

    async def find(self, ids: Collection[str]) -> dict[str, Notification]:
        """Look up facts by id; map each id to its record. Ids that no fact has are left out."""


class HistoryInMemory:
    """A RecordedHistory that is wholly in memory.

    `logs`: the records of each service, in the order of positions. `chunk`: the most records in a list.
    """

    def __init__(self, logs: Mapping[str, Sequence[Notification]], chunk: int = CHUNK) -> None:
        self._chunk = chunk
        self._logs = logs
        self._by_id = {id_of(record): record for log in logs.values() for record in log}
        self.ends = {name: log[-1].position if log else 0 for name, log in logs.items()}

    async def log(self, service: str) -> AsyncGenerator[Sequence[Notification]]:
        log = self._logs[service]
        for start in range(0, len(log), self._chunk):
            yield log[start : start + self._chunk]

    async def said(self, service: str, topics: Collection[str]) -> AsyncGenerator[Sequence[Notification]]:
        async for records in self.log(service):
            yield [record for record in records if record.topic in topics]

    async def find(self, ids: Collection[str]) -> dict[str, Notification]:
        return {its_id: self._by_id[its_id] for its_id in ids if its_id in self._by_id}


# From a file ----------------------------------------------------------------------------------------------------------


class BadHistory(Unusable):
    """The lines are not a history as `orders replay` prints it. The message names the line.

    That line is not a fact of EVENTS, or has another record than an earlier line for the same position of a log. Or the
    file has no fact.
    """


class _Headers(msgspec.Struct):
    fact_id: str = msgspec.field(name=MSG_ID)
    stream: str = msgspec.field(name=STREAM)
    version: int = msgspec.field(name=VERSION)
    position: int = msgspec.field(name=POSITION)


def read(lines: Iterable[bytes]) -> HistoryInMemory:
    """Read the history in these lines: each service's log in the order of positions, without repeats.

    All of it is in memory. Raises BadHistory. A missing fact raises nothing: it is a finding of the judge.
    """
    logs: dict[str, dict[int, Notification]] = {}
    try:
        for number, message in parsed(lines):
            service, record = _record(message, number)
            log = logs.setdefault(service, {})
            known = log.setdefault(record.position, record)
            if known != record:
                raise BadHistory(
                    f"line {number}: an earlier line has another record, {id_of(known)}, at position "
                    f"{record.position} of the log of {service}_svc"
                )
    except BadLine as error:
        raise BadHistory(str(error)) from error
    if not logs:
        raise BadHistory("line 1: the file contains no fact")
    return HistoryInMemory({name: [log[position] for position in sorted(log)] for name, log in logs.items()})


def _record(message: ReplayedMessage, number: int) -> tuple[str, Notification]:
    try:
        headers = msgspec.convert(message.headers, _Headers, strict=False)  # in headers, numbers are text
    except msgspec.ValidationError as error:
        raise BadHistory(f"line {number}: {error}") from error
    name = message.subject.rpartition(".")[0]
    if headers.fact_id != fact_id(headers.stream, headers.version) or not name:
        raise BadHistory(f"line {number}: {MSG_ID}, {STREAM}, {VERSION} and the subject do not fit together")
    record = Notification(headers.position, headers.stream, headers.version, name, message.body)
    return said_by(name), record
