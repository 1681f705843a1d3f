"""What the four services share: the broker, a store, and how a message is handled once."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from pydantic import BaseModel

T = TypeVar("T")
Handler = TypeVar("Handler", bound=Callable[..., Any])
Connection = sqlite3.Connection

AT_ONCE: Final = 64
"""Messages of one subject that a service takes and handles at a time, at most."""
IDLE_S: Final = 30.0
"""How long a fetch waits for its first message; it returns with the messages that there are."""
PUBLISH_WITHIN_S: Final = 5.0
STREAM: Final = JStream("SHOP", subjects=["order.*", "product.*", "point.*", "coupon.*", "failed.*"])
HANDLED: Final = """
    CREATE TABLE IF NOT EXISTS handled (
        id TEXT PRIMARY KEY, subject TEXT NOT NULL, answer TEXT NOT NULL
    ) WITHOUT ROWID
"""

logger: Final = logging.getLogger("choreography")


def _is_no_idle_fetch(record: logging.LogRecord) -> bool:
    """nats-py ends a fetch without messages by an error that FastStream reports before it fetches again."""
    return not (record.exc_info and record.exc_info[0] is TimeoutError and "_fetch_n" in _functions(record.exc_info[2]))


def _functions(traceback: TracebackType | None) -> set[str]:
    return {frame.f_code.co_name for frame, _ in walk_tb(traceback)}


logger.addFilter(_is_no_idle_fetch)
broker: Final = NatsBroker(f"nats://127.0.0.1:{os.environ['NATS_PORT']}", logger=logger)


class Answer(NamedTuple):
    """A message to publish."""

    subject: str
    event: BaseModel


class Store:
    """One service's SQLite file. All its transactions run on one thread, because SQLite has one writer."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._thread = ThreadPoolExecutor(1)

    async def open(self, path: Path) -> None:
        def opened() -> None:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(f"{self._schema};{HANDLED}")

        await self._on_thread(opened)

    async def close(self) -> None:
        await self._on_thread(self._db.close)
        self._thread.shutdown()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do this work in a transaction."""

        def done() -> T:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._db)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            return result

        return await self._on_thread(done)

    async def read(self, statement: str, *values: object) -> Any:
        """The first row, or None."""
        return await self._on_thread(lambda: self._db.execute(statement, values).fetchone())

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def hears(subject: str, service: str) -> Callable[[Handler], Handler]:
    """Hear a subject by a durable consumer of the service's own. A message that fails is delivered again."""
    subscriber: Any = broker.subscriber(
        subject,
        stream=STREAM,
        durable=f"{service}-{subject.replace('.', '-').replace('*', 'any')}",
        pull_sub=PullSub(AT_ONCE, timeout=IDLE_S),
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    decorator: Callable[[Handler], Handler] = subscriber
    return decorator


async def publish(answer_id: str, subject: str, event: str) -> None:
    """Publish, and wait until the stream has it. It has a message with this id once."""
    await broker.publish(
        event.encode(),
        subject,
        stream=STREAM.name,
        headers={"Nats-Msg-Id": answer_id, "content-type": "application/json"},
        timeout=PUBLISH_WITHIN_S,
    )


async def once(store: Store, handler: str, order_id: str, work: Callable[[Connection], Answer]) -> None:
    """Do this handler's work for the order, unless it is done, and publish its answer in any case."""
    answer_id = f"{handler}-{order_id}"

    def handled(db: Connection) -> tuple[str, str]:
        before = db.execute("SELECT subject, answer FROM handled WHERE id = ?", (answer_id,)).fetchone()
        if before is not None:
            return before[0], before[1]
        subject, event = work(db)
        answer = event.model_dump_json()
        db.execute("INSERT INTO handled VALUES (?, ?, ?)", (answer_id, subject, answer))
        return subject, answer

    subject, answer = await store.run(handled)
    await publish(answer_id, subject, answer)
