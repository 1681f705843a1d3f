"""A view of the stream shows nothing before it has all there was, and keeps what it has without a broker."""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION
from infra.broker.numbering import EVENTS
from infra.core.errors import StoreUnavailable
from infra.core.messages import Delivery, StreamPosition
from infra.read_models.errors import ViewBehind
from infra.read_models.stream_view import StreamView
from infra.read_models.tables import Statement
from infra.store.records import Notification
from tests.infra.broker.mirroring import session, settings
from tests.infra.read_models.damage import damage
from tests.infra.read_models.running import Emptied, running
from tests.shop import Shop, attempts

SEEN = "SELECT stream FROM seen ORDER BY 1"


class Seen:
    """Projection: the streams of the received facts, each once."""

    name = "seen"
    topics: Collection[str] = ("order.canceled",)
    tables = "CREATE TABLE seen (stream TEXT PRIMARY KEY)"

    def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
        yield "INSERT OR IGNORE INTO seen VALUES (?)", [(stored.originator_id,) for stored in records]


@contextlib.asynccontextmanager
async def following(broker: Shop, folder: Path) -> AsyncIterator[StreamView]:
    async with StreamView.open(Seen(), "product", settings(broker), folder) as view, running(view):
        yield view


async def say(broker: Shop, *orders: str) -> None:
    async with session(broker) as js:
        for order in orders:
            body = b'{"type":"order.canceled","order_id":"%b"}' % order.encode()
            head = {MSG_ID: f"order-{order}@2", STREAM: f"order-{order}", VERSION: "2", POSITION: "7"}
            await js.publish(f"order.canceled.{order}", body, headers=head)


def canceled(order: str) -> Delivery:
    """What `say` publishes, as it is delivered."""
    lines = {MSG_ID: f"order-{order}@2", STREAM: f"order-{order}", VERSION: "2", POSITION: "7"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    body = b'{"type":"order.canceled","order_id":"%b"}' % order.encode()
    raw = f"NATS/1.0\r\n{head}\r\n".encode()
    return Delivery(f"order-{order}@2", body, "", StreamPosition(1, 1), f"order.canceled.{order}", raw)


async def until_shown(view: StreamView, *streams: str) -> None:
    async for _ in attempts(f"the view to show {streams}"):
        with contextlib.suppress(ViewBehind):
            if await view.select(SEEN) == [(stream,) for stream in streams]:
                return


async def test_a_view_that_was_never_fed_shows_nothing_and_names_the_cause(broker: Shop, tmp_path: Path) -> None:
    async with StreamView.open(Seen(), "product", settings(broker), tmp_path) as view:
        with pytest.raises(ViewBehind, match="being built"):
            await view.select(SEEN)
        with pytest.raises(ViewBehind, match="not following"):
            await view.behind()


async def test_it_is_fed_with_earlier_facts_and_with_later_ones(broker: Shop, tmp_path: Path) -> None:
    await say(broker, "o1", "o2")
    async with following(broker, tmp_path) as view:
        await until_shown(view, "order-o1", "order-o2")
        await say(broker, "o3")
        await until_shown(view, "order-o1", "order-o2", "order-o3")


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        sqlite3.DatabaseError("database disk image is malformed"),
    ],
)
async def test_trouble_with_the_file_does_not_make_a_dead_letter_a_rejected_one(
    broker: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: sqlite3.Error
) -> None:
    async with StreamView.open(Seen(), "product", settings(broker), tmp_path) as view:

        async def failing(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(view._tables._writer, "executemany", failing)
        with pytest.raises(StoreUnavailable, match=str(error)):
            await view.attempt(canceled("o1"))


async def test_a_damaged_file_makes_no_dead_letter_and_the_view_says_what_to_do(broker: Shop, tmp_path: Path) -> None:
    await say(broker, "o1")
    async with following(broker, tmp_path) as view:
        await until_shown(view, "order-o1")
    async with following(broker, tmp_path) as view:
        async for _ in attempts("the view to follow"):
            with contextlib.suppress(ViewBehind):
                if await view.behind() == 0:
                    break
        damage(tmp_path / "seen.view.sqlite")
        await say(broker, "o2")
        async for _ in attempts("the view to say what keeps it"):
            with contextlib.suppress(ViewBehind):
                await view.behind()
            if re.search(r"seen\.view\.sqlite: .*malformed\. .*delete it", view.supervisor.reason):
                break
        assert view.dead_letters.empty

    (tmp_path / "seen.view.sqlite").unlink()
    async with following(broker, tmp_path) as view:
        await until_shown(view, "order-o1", "order-o2")


class Picky(Seen):
    """Takes no fact of the order o2."""

    def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
        assert all(stored.originator_id != "order-o2" for stored in records)
        return super().apply(records)


async def test_the_last_fact_is_rejected_once_also_if_its_dead_letter_was_dropped(broker: Shop, tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def following_some() -> AsyncIterator[StreamView]:
        async with StreamView.open(Picky(), "product", settings(broker), tmp_path) as view, running(view):
            yield view

    await say(broker, "o1", "o2")
    async with following_some() as view:
        async for _ in attempts("the dead letter"):
            if not view.dead_letters.empty and await view.behind() == 0:
                break
        (letter,) = view.dead_letters.of("o2")
        assert view.supervisor.retry_queue is not None
        await view.supervisor.retry_queue.drop("o2", letter.sequence)

    await say(broker, "o3")
    async with following_some() as view:
        await until_shown(view, "order-o1", "order-o3")
        assert view.dead_letters.empty


async def test_foreign_messages_are_passed_over(broker: Shop, tmp_path: Path) -> None:
    async with session(broker) as js:
        for its_id in ("somebody-elses", "order-o9@x", "@", "order-o9@2"):
            await js.publish(
                "order.canceled.o9", b'{"type":"order.canceled","order_id":"o9"}', headers={MSG_ID: its_id}
            )
        await js.publish("order.canceled.o9", b"\xff")
    await say(broker, "o1")
    async with following(broker, tmp_path) as view:
        await until_shown(view, "order-o1")


async def test_a_view_that_had_all_of_it_shows_it_also_without_a_broker(broker: Shop, tmp_path: Path) -> None:
    await say(broker, "o1")
    async with following(broker, tmp_path) as view:
        await until_shown(view, "order-o1")
    await broker.kill("nats")

    async with following(broker, tmp_path) as view:
        assert await view.select(SEEN) == [("order-o1",)]


async def test_a_view_to_be_rebuilt_is_refused_to_its_readers_at_once(broker: Shop, tmp_path: Path) -> None:
    await say(broker, "o1")
    async with following(broker, tmp_path) as view:
        await until_shown(view, "order-o1")

        view.rebuild()
        with pytest.raises(ViewBehind, match="being built"):
            await view.select(SEEN)

        await until_shown(view, "order-o1")


async def test_a_read_that_a_rebuild_overtakes_is_refused(broker: Shop, tmp_path: Path) -> None:
    await say(broker, "o1")
    async with Emptied.open(Seen(), tmp_path) as tables:
        view = StreamView(Seen(), "product", settings(broker), tables)
        async with running(view):
            await until_shown(view, "order-o1")

            tables.rebuild = view.rebuild
            with pytest.raises(ViewBehind, match="being built"):
                await view.select(SEEN)

            await until_shown(view, "order-o1")


# A checkpoint for each consumer ---------------------------------------------------------------------------------------


class Both(Seen):
    """The same of two kinds of facts, each received once; a repeat would be refused."""

    name = "both"
    topics: Collection[str] = ("order.canceled", "order.confirmed")
    tables = "CREATE TABLE seen (stream TEXT)"

    def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
        yield "INSERT INTO seen VALUES (?)", [(stored.originator_id,) for stored in records]


async def say_both(broker: Shop, first: int, last: int) -> None:
    """Facts about the orders from the first to the last; every third one is confirmed, the others are canceled."""
    async with session(broker) as js:
        for n in range(first, last + 1):
            name = "order.confirmed" if n % 3 == 0 else "order.canceled"
            head = {MSG_ID: f"order-{n}@2", STREAM: f"order-{n}", VERSION: "2", POSITION: "7"}
            await js.publish(f"{name}.{n}", b'{"type":"%b","order_id":"%d"}' % (name.encode(), n), headers=head)


@contextlib.asynccontextmanager
async def following_both(broker: Shop, folder: Path) -> AsyncIterator[StreamView]:
    async with StreamView.open(Both(), "product", settings(broker), folder) as view:
        run = asyncio.create_task(view.run())
        try:
            yield view
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)


async def until_count(view: StreamView, count: int) -> list[str]:
    async for _ in attempts(f"{count} facts"):
        with contextlib.suppress(ViewBehind):
            rows = await view.select("SELECT stream FROM seen")
            if len(rows) >= count:
                return sorted(stream for (stream,) in rows)
    raise AssertionError


async def test_each_consumer_goes_on_where_it_was(broker: Shop, tmp_path: Path) -> None:
    await say_both(broker, 1, 7)  # the last confirmation lies before the last cancel
    async with following_both(broker, tmp_path) as view:
        await until_count(view, 7)
    await say_both(broker, 8, 10)

    async with following_both(broker, tmp_path) as view:
        assert await until_count(view, 10) == sorted(f"order-{n}" for n in range(1, 11))
        assert await view.behind() == 0


async def test_a_file_of_the_version_before_is_continued_and_its_consumer_replaced(
    broker: Shop, tmp_path: Path
) -> None:
    await say_both(broker, 1, 7)
    async with following_both(broker, tmp_path) as view:
        await until_count(view, 7)
    with contextlib.closing(sqlite3.connect(tmp_path / "both.view.sqlite")) as file:
        newest = file.execute("SELECT max(position), stored_us FROM read").fetchone()
        file.execute("DROP TABLE read")
        file.execute("INSERT OR REPLACE INTO position VALUES (1, ?, ?)", newest)
        file.commit()
    async with session(broker) as js:
        old = ConsumerConfig(
            durable_name="product-both",
            ack_policy=AckPolicy.ALL,
            filter_subjects=["order.canceled.*", "order.confirmed.*"],
        )
        await js.add_consumer(EVENTS, old)
    await say_both(broker, 8, 10)

    async with following_both(broker, tmp_path) as view:
        assert await until_count(view, 10) == sorted(f"order-{n}" for n in range(1, 11))
    async with session(broker) as js:
        names = sorted(str(info.name) for info in await js.consumers_info(EVENTS))
    assert names == ["product-both-hears-order-canceled", "product-both-hears-order-confirmed"]
