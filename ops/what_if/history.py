"""The recorded history that is decided again: the protocol to read it by, and a history read from a file."""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from contracts.origin import ForeignMessage, origin
from contracts.wire import MSG_ID, said_by
from infra.store.records import Notification
from ops.errors import Unusable
from ops.replay.lines import BadLine, ReplayedMessage, head, parsed
from ops.stores import CHUNK
from ops.what_if.difference import id_of


class RecordedHistory(Protocol):
    """The recorded logs of all services. The methods may raise Unreachable."""

    @property
    def ends(self) -> Mapping[str, int]:
        """Map each service to the position up to which (inclusive) `said` reads its log; 0 if the log is empty.

        What other services recorded because of facts up to that position should be in this history, too.
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

    def __init__(self, logs: Mapping[str, Sequence[Notification]], chunk: int = CHUNK, foreign: int = 0) -> None:
        """`foreign`: how many messages were passed over because no service published them."""
        self.foreign = foreign
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
    """The lines are not a history as `orders replay` prints it. The text of the error names the line.

    That line is no message of EVENTS, or has another record than an earlier line for the same position of a log; or no
    line has a fact.
    """


def read(lines: Iterable[bytes]) -> HistoryInMemory:
    """Read the history in these lines: each service's log in the order of positions, without repeats.

    All of it is in memory. Foreign messages are passed over, and counted in `foreign`. Raises BadHistory. A fact that
    is missing raises nothing: the judge may find that.
    """
    logs: dict[str, dict[int, Notification]] = {}
    foreign = 0
    try:
        for number, message in parsed(lines):
            try:
                service, record = _record(message)
            except ForeignMessage:
                foreign += 1
                continue
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
    whole = {name: [log[position] for position in sorted(log)] for name, log in logs.items()}
    return HistoryInMemory(whole, foreign=foreign)


def _record(message: ReplayedMessage) -> tuple[str, Notification]:
    """Return the service and the record that this message has. Raises ForeignMessage."""
    raw_headers, name = head(message.headers).encode(), message.subject.rpartition(".")[0]
    where = origin(message.subject, message.headers.get(MSG_ID, ""), raw_headers, message.body)
    return said_by(name), Notification(where.position, where.stream, where.version, name, message.body)
