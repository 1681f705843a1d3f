"""Watches what archivers and relays do, and says what none of them may do.

A generation is archived only if all have heard it, nobody's order in it is open, no dead letter points into it, and
its files are what the stream has. It is deleted only if the archive has all of it. What is archived before a session
begins is not published again by it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from contracts import OrderCanceled, Reason
from contracts.spans import CANCELED, CONFIRMED
from contracts.wire import MSG_ID, decode
from infra.archive.errors import ArchiveDamaged
from infra.archive.lines import ArchivedMessage
from infra.archive.reader import Archive
from infra.broker.client import header
from infra.broker.numbering import generation_of, number_of
from infra.consuming.dead_letter import DEAD
from infra.consuming.dead_letter_message import parsed
from ops.trace import OF_ORDER
from order_svc.compensation import compensated
from tests.domain.spec import SERVICES
from tests.sim.disk import Disk
from tests.sim.jetstream import Peer, Stored, Stream
from tests.sim.loop import running
from tests.sim.server import Server

CONSUMERS = sum(len(service.hears) for service in SERVICES.values())


class ArchiveWitness:
    """`folder`: the archive's. `wrong`: what was seen, in words. `ids`: of all facts that were ever archived."""

    def __init__(self, folder: Path, server: Server, disks: Mapping[str, Disk]) -> None:
        self.folder = folder
        self.wrong: list[str] = []
        self.ids: set[str] = set()
        self.generations = 0
        """How many were archived."""
        self._server = server
        self._disks = disks
        self._loop = running()
        self._floors: list[tuple[float, dict[str, int]]] = []
        """What the archive had of each log, and since when."""
        self._made: dict[int, datetime] = {}
        """When the generations were made that there were when the archiver began."""
        self._canceled: set[str] = set()
        """The orders that a stream had as canceled when the archiver began."""
        self._letters: set[int] = set()
        """The sequences of the dead letters that there were then."""

    def _sees(self, what: str) -> None:
        self.wrong.append(what)
        self._loop.note("WRONG {}", what)

    # Of an archiver ---------------------------------------------------------------------------------------------------

    def begins(self) -> None:
        self._made = {number: stream.created for number, stream in self._server.streams.items()}
        self._canceled = _ids(self._server.messages, CANCELED)
        self._letters = set(self._server.dead.messages)

    def archived(self, name: str) -> None:
        """The manifest of this generation has just been written: it is archived from now on."""
        self.generations += 1
        self._loop.note("{} is archived", name)
        found = self._files(name)
        self.ids |= {header(one.head, MSG_ID.encode()) for one in found}
        archive = Archive(self.folder)
        self._floors.append((self._loop.time(), {service: archive.log_of(service).until for service in SERVICES}))
        stream = self._server.streams.get(number_of(name) or 0)
        if stream is not None and stream.created == self._made[stream.number]:  # nobody has replaced it since
            self._compare(stream, found, "archived")
            self._heard(stream)
        self._letters_of(name)
        self._open_orders(name, found)

    def _files(self, name: str) -> list[ArchivedMessage]:
        """What the archive has of this generation; nothing if it has no manifest of it."""
        archive = Archive(self.folder)
        try:
            manifest = archive.of(number_of(name) or 0)
            if manifest is None:
                return []
            return [message for messages in archive.read(manifest) for message in messages]
        except ArchiveDamaged as error:
            self._sees(f"the archive of {name} cannot be read: {error}")
            return []

    def _compare(self, stream: Stream, found: list[ArchivedMessage], what: str) -> None:
        there = set(found)
        lacking = [one for one in stream.messages if one.subject and _as_archived(one) not in there]
        if lacking:
            self._sees(f"{stream.name} is {what}, and the archive lacks {len(lacking)} of its messages")

    def _heard(self, stream: Stream) -> None:
        for consumer in stream.consumers.values():
            unheard = [one.sequence for one in stream.after(consumer.heard) if consumer.wants(one)]
            if unheard and consumer.config.durable_name:
                self._sees(f"{stream.name} is archived, and {consumer.name} has not heard {unheard}")
        if sum(bool(one.config.durable_name) for one in stream.consumers.values()) < CONSUMERS:
            self._sees(f"{stream.name} is archived, and some have never heard it")

    def _letters_of(self, name: str) -> None:
        for sequence, message in self._server.dead.messages.items():
            origin = parsed(message, whole=False).origin.sequence
            if sequence in self._letters and generation_of(origin) == number_of(name):
                self._sees(f"{name} is archived, and the dead letter {sequence} of {DEAD} is of {origin} in it")

    def _open_orders(self, name: str, found: list[ArchivedMessage]) -> None:
        courses = dict(self._courses())
        for order_id in sorted({one.subject.rpartition(".")[2] for one in found if _name(one.subject) in OF_ORDER}):
            names, reason = courses.get(order_id, ({CONFIRMED}, None))
            ended = CONFIRMED in names or reason is not None
            undone = reason is None or order_id not in self._canceled or compensated(reason, names)
            if not (ended and undone):
                self._sees(f"{name} is archived, and order {order_id} in it is open: {sorted(names)}")

    def _courses(self) -> Iterator[tuple[str, tuple[set[str], Reason | None]]]:
        """Each order in order_svc's log, with the names of its facts in all logs, and why it was canceled."""
        names: dict[str, set[str]] = {}
        reasons: dict[str, Reason] = {}
        for disk in self._disks.values():
            for record in disk.log:
                fact = decode(record.state)
                order_id: str | None = getattr(fact, "order_id", None)
                if order_id is not None and record.topic in OF_ORDER:
                    names.setdefault(order_id, set()).add(record.topic)
                    if isinstance(fact, OrderCanceled):
                        reasons[order_id] = fact.reason
        recorded = {record.originator_id for record in self._disks["order"].log}
        for order_id, its in names.items():
            if f"order-{order_id}" in recorded:
                yield order_id, (its, reasons.get(order_id))

    # Of the server ----------------------------------------------------------------------------------------------------

    def deletes(self, stream: Stream) -> None:
        self._compare(stream, self._files(stream.name), "deleted")

    def stored(self, peer: Peer, message: Stored) -> None:
        floors = [floor.get(message.service, 0) for since, floor in self._floors if since <= peer.began]
        if floors and 0 < message.position <= max(floors):
            self._sees(f"{message.fact_id} is published again, though it is archived since before its session")


def _ids(messages: list[Stored], name: str) -> set[str]:
    return {one.subject.rpartition(".")[2] for one in messages if one.name == name}


def _name(subject: str) -> str:
    return subject.rpartition(".")[0]


def _as_archived(message: Stored) -> ArchivedMessage:
    return ArchivedMessage(message.sequence, message.subject, message.body, message.head, message.stored_ns)
