"""What a view reads of the archive: what its checkpoints say it has not read, and nothing else."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path

import pytest

from contracts.wire import MSG_ID
from infra.archive.lines import ArchivedMessage
from infra.archive.reader import Archive
from infra.broker.consumers import consumer_names
from infra.broker.errors import BrokerMisconfigured
from infra.read_models.archived import ArchivedFacts
from infra.read_models.tables import Checkpoint, Statement, Tables
from infra.store.records import Notification
from tests.infra.archive.test_archive import SPAN, archived

HEARS = ("order.canceled", "order.confirmed")


class Counting:
    """A projection that does nothing."""

    name = "counting"
    topics: Collection[str] = HEARS
    tables = "CREATE TABLE IF NOT EXISTS counted (one INTEGER);"

    def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
        return []


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[Tables]:
    async with Tables.open(Counting(), tmp_path / "views") as opened:
        yield opened


def told(n: int, name: str) -> ArchivedMessage:
    head = f"NATS/1.0\r\n{MSG_ID}: order-o{n}@2\r\n\r\n".encode()
    return ArchivedMessage(n, f"{name}.o{n}", b"{}", head, 1_000_000 + 1_000 * n)


def archive(folder: Path) -> Archive:
    """Two generations: of ten messages each, every third is point_svc's, and others an order's end."""
    names = ("point.used", "order.canceled", "order.confirmed")
    archived(folder, 0, [told(n, names[n % 3]) for n in range(1, 11)])
    archived(folder, 1, [told(SPAN + n, names[n % 3]) for n in range(1, 11)])
    return Archive(folder)


def facts(folder: Path, tables: Tables, hears: Collection[str] = HEARS) -> ArchivedFacts:
    return ArchivedFacts(archive(folder), consumer_names("product-counting", hears), tables)


async def read(found: ArchivedFacts, tables: Tables, most: int = 100) -> list[int]:
    sequences: list[int] = []
    async for messages, checkpoints in found.chunks():
        assert all(message.fact_id == f"order-o{message.position.sequence}@2" for message in messages)
        await tables.apply([], read=checkpoints)
        sequences += [message.position.sequence for message in messages]
        if len(sequences) >= most:
            break
    return sequences


ALL = [n for n in range(1, 11) if n % 3] + [SPAN + n for n in range(1, 11) if n % 3]


async def test_a_new_view_reads_all_that_it_hears_once(tmp_path: Path, tables: Tables) -> None:
    found = facts(tmp_path / "a", tables)
    await found.look()
    assert found.left == len(ALL)

    assert await read(found, tables) == ALL
    assert found.left == 0

    await found.look()
    assert (found.left, await read(found, tables)) == (0, [])


async def test_a_view_that_has_heard_all_of_the_stream_reads_nothing(tmp_path: Path, tables: Tables) -> None:
    heard = {
        "product-counting-hears-order-canceled": Checkpoint(10, 1_010),
        "product-counting-hears-order-confirmed": Checkpoint(8, 1_008),
    }
    await tables.apply([], read=heard)
    found = facts(tmp_path / "a", tables)
    assert await read(found, tables) == [n for n in ALL if n > SPAN]


async def test_one_that_was_interrupted_goes_on(tmp_path: Path, tables: Tables) -> None:
    found = facts(tmp_path / "a", tables)
    first = await read(found, tables, most=2)

    rest = await read(facts(tmp_path / "b", tables), tables)

    assert sorted({*first, *rest}) == ALL
    assert len(rest) < len(ALL)


async def test_one_that_read_another_stream_there_reads_all(tmp_path: Path, tables: Tables) -> None:
    await tables.apply([], read={"product-counting-hears-order-canceled": Checkpoint(10, 7)})

    assert await read(facts(tmp_path / "a", tables), tables) == ALL


async def test_a_view_of_every_message(tmp_path: Path, tables: Tables) -> None:
    found = facts(tmp_path / "a", tables, ())
    assert len(await read(found, tables)) == 20
    assert await read(found, tables) == []


async def test_a_rebuilt_view_begins_again(tmp_path: Path, tables: Tables) -> None:
    found = facts(tmp_path / "a", tables)
    await read(found, tables)
    await tables.clear()

    assert await read(found, tables) == ALL


async def test_a_damaged_archive_names_the_next_step(tmp_path: Path, tables: Tables) -> None:
    found = facts(tmp_path / "a", tables)
    (tmp_path / "a" / "EVENTS" / "part-000.jsonl.gz").unlink()

    with pytest.raises(BrokerMisconfigured, match="Put a copy of the archive back"):
        await read(found, tables)
