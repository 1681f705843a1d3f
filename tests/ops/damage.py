"""Ways to damage what a day left: a service's log, the stream, or both alike, while no service runs."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from contracts import Fact
from contracts.wire import MSG_ID, NAMES, POSITION, STREAM, VERSION, decode, encode, said_by, subject
from infra.broker.client import VERSION_LINE
from infra.broker.numbering import EVENTS
from infra.broker.streams import ensure_stream
from infra.settings import Settings, load
from tests.shop import PATIENCE_S, Event, Shop, attempts

Damage = Callable[[Shop], Awaitable[str]]
"""Does it, and gives what an audit has to name."""


class Row(NamedTuple):
    """A record of a log."""

    position: int
    stream: str
    version: int
    topic: str
    body: bytes

    @property
    def fact_id(self) -> str:
        return f"{self.stream}@{self.version}"

    @property
    def fact(self) -> Any:
        return decode(self.body)


def rows(shop: Shop, service: str) -> list[Row]:
    with contextlib.closing(sqlite3.connect(shop.folder / service / "events.sqlite")) as log:
        return [
            Row(*row)
            for row in log.execute(
                "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events ORDER BY rowid"
            )
        ]


def row(shop: Shop, name: str, fits: Callable[[Row], bool] = lambda _: True) -> Row:
    """The first record of this fact that fits."""
    return next(found for found in rows(shop, said_by(name)) if found.topic == name and fits(found))


def empty_index(path: Path) -> None:
    """Take from a log's file all entries of its index; the rows of the table stay."""
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA writable_schema = ON")
        file.execute("CREATE TABLE empty (a TEXT, b INTEGER, PRIMARY KEY (a, b))")
        file.execute(
            "UPDATE sqlite_master SET rootpage ="
            " (SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_empty_1')"
            " WHERE name = 'sqlite_autoindex_stored_events_1'"
        )
        file.commit()


def in_log(shop: Shop, service: str, statement: str, values: Iterable[Any]) -> None:
    with contextlib.closing(sqlite3.connect(shop.folder / service / "events.sqlite", timeout=PATIENCE_S)) as log, log:
        assert log.execute(statement, tuple(values)).rowcount == 1


def set_body(shop: Shop, service: str, its_id: str, body: bytes) -> None:
    stream, _, version = its_id.rpartition("@")
    in_log(
        shop,
        service,
        "UPDATE stored_events SET state = ? WHERE originator_id = ? AND originator_version = ?",
        (body, stream, int(version)),
    )


def unlog(shop: Shop, service: str, its_id: str) -> None:
    stream, _, version = its_id.rpartition("@")
    in_log(
        shop,
        service,
        "DELETE FROM stored_events WHERE originator_id = ? AND originator_version = ?",
        (stream, int(version)),
    )


def append(shop: Shop, fact: Fact) -> Row:
    """Record a forged fact at the end of its service's log."""
    name = NAMES[type(fact)]
    service, stream, body = said_by(name), fact.stream, encode(fact)
    log = rows(shop, service)
    version = 1 + max((found.version for found in log if found.stream == stream), default=0)
    in_log(shop, service, "INSERT INTO stored_events VALUES (?,?,?,?)", (stream, version, name, body))
    return Row(log[-1].position + 1, stream, version, name, body)


def as_event(found: Row) -> Event:
    """How it is published."""
    where = subject(found.topic, found.body)
    return Event(0, where, found.fact_id, found.position, found.body, msgspec.json.decode(found.body))


async def publish(shop: Shop, events: Iterable[Event]) -> None:
    """At the end of the stream, as a relay would."""
    async with shop.broker() as nc:
        acked, wanted, inbox = 0, 0, nc.new_inbox()
        done = asyncio.Event()

        def on_ack(_: bytes, __: bytes, body: bytes, ___: bytes) -> None:
            nonlocal acked
            assert b'"seq"' in body, body
            acked += 1
            done.set()

        await nc.listen(inbox, on_ack)
        for event in events:
            stream, _, version = event.fact_id.rpartition("@")
            head = (
                f"{VERSION_LINE}\r\n{MSG_ID}: {event.fact_id}\r\n{STREAM}: {stream}\r\n"
                f"{VERSION}: {version}\r\n{POSITION}: {event.position}\r\n\r\n"
            )
            await nc.send(event.subject, event.raw, inbox, head)
            wanted += 1
        async with asyncio.timeout(PATIENCE_S):
            while acked < wanted:
                done.clear()
                await done.wait()


async def rewrite_stream(shop: Shop, change: Callable[[list[Event]], list[Event]], *, window_s: str = "0.1") -> None:
    """Put another stream in the place of EVENTS, with this duplicate window."""
    events = await shop.events()
    async with shop.broker() as nc:
        js = nc.jetstream()
        await js.delete_stream(EVENTS)
        await ensure_stream(js, load(Settings, "nats", 4_222, {**shop.env, "DUPLICATE_WINDOW_S": "0.1"}))
    await publish(shop, change(events))


async def unpublish(shop: Shop, *ids: str) -> None:
    await rewrite_stream(shop, lambda events: [event for event in events if event.fact_id not in ids])


async def republish(shop: Shop, its_id: str, body: bytes) -> None:
    """Another body in the same place of the stream."""
    await rewrite_stream(
        shop, lambda events: [event._replace(raw=body) if event.fact_id == its_id else event for event in events]
    )


async def publish_again(shop: Shop, found: Row) -> None:
    """This record at the end of the stream, although its id is known there: as past the duplicate window."""
    event = as_event(found)
    headers = {MSG_ID: found.fact_id, STREAM: found.stream, VERSION: str(found.version), POSITION: str(found.position)}
    async with shop.broker() as nc:
        async for _ in attempts("the id to be forgotten"):
            if not (await nc.jetstream().publish(event.subject, event.raw, headers=headers)).duplicate:
                return


def content(folder: Path) -> dict[str, bytes]:
    """All files but locks and what SQLite shares between processes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock" and not path.name.endswith("-shm")
    }
