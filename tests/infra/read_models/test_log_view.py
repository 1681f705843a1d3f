"""Read models follow the log exactly once, in step with their own position, and can be thrown away."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path

import pytest
from eventsourcing.persistence import OperationalError
from msgspec import Struct, json

from infra.read_models.errors import ViewBehind
from infra.read_models.log_view import DEFAULT, LogView, Pace
from infra.read_models.tables import Projection, Statement
from infra.store.errors import StoreSetupError
from infra.store.event_store import EventStore
from infra.store.records import Notification, Record
from infra.store.sqlite import SQLiteStore
from tests.infra.broker.mirroring import a_log, append
from tests.infra.purse import WatchedStore
from tests.infra.read_models.damage import damage
from tests.infra.read_models.running import Emptied, running
from tests.infra.records import record
from tests.shop import attempts


class _Charged(Struct):
    user_id: str
    amount: int


class Totals:
    """Projection: what each user was charged. Applying a record twice, or leaving one out, shows."""

    name = "totals"
    topics: Collection[str] = ("point.charged",)
    tables = "CREATE TABLE IF NOT EXISTS totals (user TEXT PRIMARY KEY, total INTEGER CHECK (total < 1000000))"

    def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
        charged = [json.decode(stored.state, type=_Charged) for stored in records]
        yield "INSERT OR IGNORE INTO totals VALUES (?, 0)", [(fact.user_id,) for fact in charged]
        yield "UPDATE totals SET total = total + ? WHERE user = ?", [(fact.amount, fact.user_id) for fact in charged]


class Counts:
    """Projection over all topics: how many records each has."""

    name = "counts"
    topics: Collection[str] = ()
    tables = "CREATE TABLE IF NOT EXISTS counts (topic TEXT PRIMARY KEY, n INTEGER)"

    def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
        yield "INSERT OR IGNORE INTO counts VALUES (?, 0)", [(stored.topic,) for stored in records]
        yield "UPDATE counts SET n = n + 1 WHERE topic = ?", [(stored.topic,) for stored in records]


TOTALS = "SELECT user, total FROM totals ORDER BY user"


@pytest.fixture
async def log() -> AsyncIterator[SQLiteStore]:
    async with a_log() as store:
        yield store


@contextlib.asynccontextmanager
async def following(
    log: EventStore, folder: Path, projection: Projection | None = None, pace: Pace = DEFAULT
) -> AsyncIterator[LogView]:
    """A view at work."""
    async with LogView.open(projection or Totals(), log, folder, pace) as view, running(view):
        yield view


def kept(folder: Path) -> tuple[list[tuple[str, int]], list[tuple[int]]]:
    """What is in the file of the totals: rows and position."""
    with contextlib.closing(sqlite3.connect(folder / "totals.view.sqlite")) as file:
        return file.execute(TOTALS).fetchall(), file.execute("SELECT position FROM position").fetchall()


def throw_away(folder: Path) -> None:
    for file in folder.glob("totals.view.sqlite*"):
        file.unlink()


async def test_a_view_has_what_was_recorded_before_it_was_first_opened(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 4)

    async with following(log, tmp_path) as view:
        assert await view.select(TOTALS) == [("ann", 10)]


async def test_a_view_follows_the_log(log: SQLiteStore, tmp_path: Path) -> None:
    async with following(log, tmp_path) as view:
        await append(log, 1, 3)
        view.log_has_grown()

        async for _ in attempts("the view to follow"):
            if kept(tmp_path)[0] == [("ann", 6)]:
                break


async def test_a_client_reads_its_own_writes(log: SQLiteStore, tmp_path: Path) -> None:
    async with following(log, tmp_path) as view:
        for n in range(1, 21):
            await append(log, n, n)
            assert await view.select(TOTALS) == [("ann", n * (n + 1) // 2)]


async def test_many_may_wait_for_a_view_at_once(log: SQLiteStore, tmp_path: Path) -> None:
    async with following(log, tmp_path) as view:
        await append(log, 1, 3)

        found = await asyncio.gather(*(view.select(TOTALS) for _ in range(20)))

    assert found == [[("ann", 6)]] * 20


async def test_a_view_reads_only_the_facts_it_names(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 2)
    await log.insert_events([record("other-1", 1, "other.happened")])
    await append(log, 3, 3)

    async with following(log, tmp_path) as totals, following(log, tmp_path, Counts()) as counts:
        assert await totals.select(TOTALS) == [("ann", 6)]
        assert await counts.select("SELECT * FROM counts ORDER BY topic") == [
            ("other.happened", 1),
            ("point.charged", 3),
        ]


async def test_parameters_are_bound(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 1, "ann")
    await append(log, 1, 1, "ben")

    async with following(log, tmp_path) as view:
        assert await view.select("SELECT total FROM totals WHERE user = ?", ("ben",)) == [(1,)]


async def test_a_long_log_is_applied_in_portions(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 100)

    async with following(log, tmp_path, pace=Pace(chunk=7)) as view:
        assert await view.select(TOTALS) == [("ann", 5_050)]
    assert kept(tmp_path) == ([("ann", 5_050)], [(100,)])


async def test_a_restarted_view_goes_on_from_its_position(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 5)
    async with following(log, tmp_path) as view:
        await view.select(TOTALS)
    await append(log, 6, 7)

    asked: list[int] = []

    class Watched(WatchedStore):
        async def select_notifications(
            self, after: int, limit: int, topics: Collection[str] = ()
        ) -> list[Notification]:
            asked.append(after)
            return await super().select_notifications(after, limit, topics)

    async with following(Watched(log), tmp_path) as view:
        assert await view.select(TOTALS) == [("ann", 28)]

    assert asked[0] == 5


async def test_a_view_that_was_thrown_away_is_rebuilt_as_it_was(log: SQLiteStore, tmp_path: Path) -> None:
    for user in ("ann", "ben", "cas"):
        await append(log, 1, 20, user)
    async with following(log, tmp_path) as view:
        before = await view.select(TOTALS)

    throw_away(tmp_path)
    async with following(log, tmp_path) as view:
        assert await view.select(TOTALS) == before == [("ann", 210), ("ben", 210), ("cas", 210)]


async def test_the_checkpoint_is_stored_with_the_rows_before_it_or_not_at_all(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 3)
    failures = 3

    class Stumbling(Totals):
        def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
            nonlocal failures
            yield from super().apply(records)
            if failures:
                failures -= 1
                assert kept(tmp_path) == ([], [])  # no reader sees half of it
                yield "INSERT INTO no_such_table VALUES (?)", [(1,)]

    async with following(log, tmp_path, Stumbling(), Pace(retry_s=0.01)) as view:
        assert await view.select(TOTALS) == [("ann", 6)]

    assert failures == 0
    assert kept(tmp_path) == ([("ann", 6)], [(3,)])


@pytest.mark.parametrize("statements", [0, 1, 2])
async def test_a_view_that_is_cut_short_has_done_nothing_and_counts_nothing_twice(
    log: SQLiteStore, tmp_path: Path, statements: int
) -> None:
    await append(log, 1, 30)

    class CutShort(Totals):
        """The task that follows the log is cancelled after this many statements."""

        def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
            yield from [*super().apply(records)][:statements]
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    async with LogView.open(CutShort(), log, tmp_path) as view:
        with pytest.raises(asyncio.CancelledError):
            await view.run()
    assert kept(tmp_path) == ([], [])

    async with following(log, tmp_path) as view:
        assert await view.select(TOTALS) == [("ann", 465)]


async def test_readers_of_a_view_that_does_not_catch_up_get_an_error(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 1)

    async with LogView.open(Totals(), log, tmp_path, Pace(patience_s=0.05)) as view:  # it does not run
        with pytest.raises(ViewBehind, match="totals"):
            await view.select(TOTALS)


async def test_a_store_that_fails_leaves_the_view_behind_until_it_heals(log: SQLiteStore, tmp_path: Path) -> None:
    broken = True

    class Breaking(WatchedStore):
        async def max_notification_id(self) -> int:
            if broken:
                raise OperationalError("disk I/O error")
            return await super().max_notification_id()

    async with following(Breaking(log), tmp_path, pace=Pace(retry_s=0.01)) as view:
        await append(log, 1, 3)
        with pytest.raises(ViewBehind):
            await view.select(TOTALS)

        broken = False
        assert await view.select(TOTALS) == [("ann", 6)]


def test_a_view_whose_file_is_no_database_names_it_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "totals.view.sqlite").write_text("Dear diary, this is certainly no database. " * 100)

    async def open_and_close() -> None:
        async with a_log() as log, LogView.open(Totals(), log, tmp_path):
            pass

    with pytest.raises(StoreSetupError, match=r"totals\.view\.sqlite: file is not a database.*[Dd]elete it"):
        asyncio.run(open_and_close())


async def test_a_view_whose_file_is_damaged_in_use_says_so_and_passes_over_no_fact(
    log: SQLiteStore, tmp_path: Path
) -> None:
    await append(log, 1, 3)
    async with following(log, tmp_path) as view:
        await view.select(TOTALS)
    async with following(log, tmp_path, pace=Pace(retry_s=0.01, patience_s=0.05)) as view:
        assert await view.behind() == 0
        damage(tmp_path / "totals.view.sqlite")
        await append(log, 4, 4)
        view.log_has_grown()
        async for _ in attempts("the view to say what keeps it"):
            if view._trouble is not None:
                break
        with pytest.raises(ViewBehind, match=r"totals\.view\.sqlite: .*malformed\. .*delete it"):
            await view.behind()
        assert view.position == 3
        with pytest.raises(ViewBehind, match="totals"):
            await view.select(TOTALS)

    throw_away(tmp_path)
    async with following(log, tmp_path) as view:
        assert (await view.select(TOTALS), await view.behind()) == ([("ann", 10)], 0)


async def test_a_view_of_another_log_is_refused_by_name(tmp_path: Path) -> None:
    """It has read further than this log goes: what it shows is not this log's."""
    async with a_log() as log:
        await append(log, 1, 3)
        async with following(log, tmp_path) as view:
            await view.select("SELECT 1")

    async with a_log() as shorter:
        with pytest.raises(StoreSetupError, match="delete it, and it is rebuilt"):
            async with following(shorter, tmp_path):
                pass


async def test_a_view_that_is_rebuilt_comes_to_the_same_and_its_readers_wait_for_it(
    log: SQLiteStore, tmp_path: Path
) -> None:
    await append(log, 1, 4)
    async with following(log, tmp_path) as view:
        assert await view.select(TOTALS) == [("ann", 10)]
        with contextlib.closing(sqlite3.connect(tmp_path / "totals.view.sqlite")) as file:
            file.execute("UPDATE totals SET total = 99")
            file.commit()

        view.rebuild()
        assert await view.behind() == 4

        assert await view.select(TOTALS) == [("ann", 10)]
        assert await view.behind() == 0


async def test_a_read_that_a_rebuild_overtakes_does_not_see_emptied_tables(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 4)
    async with Emptied.open(Totals(), tmp_path) as tables:
        view = LogView(Totals(), log, tables)
        async with running(view):
            assert await view.select(TOTALS) == [("ann", 10)]

            tables.rebuild = view.rebuild
            assert await view.select(TOTALS) == [("ann", 10)]


async def test_a_view_with_other_tables_than_its_file_was_made_with_is_fed_again(
    log: SQLiteStore, tmp_path: Path
) -> None:
    await append(log, 1, 4)
    async with following(log, tmp_path) as view:
        await view.select(TOTALS)

    class Smallest(Totals):
        """The next version of the projection: other columns, and old rows would not fit."""

        tables = "CREATE TABLE totals (user TEXT PRIMARY KEY, total INTEGER, note TEXT DEFAULT 'new')"

        def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
            charged = [json.decode(stored.state, type=_Charged) for stored in records]
            yield "INSERT OR IGNORE INTO totals (user, total) VALUES (?, 0)", [(fact.user_id,) for fact in charged]
            yield (
                "UPDATE totals SET total = total + ? WHERE user = ?",
                [(fact.amount, fact.user_id) for fact in charged],
            )

    async with following(log, tmp_path, Smallest()) as view:
        assert await view.select("SELECT * FROM totals") == [("ann", 10, "new")]


async def test_a_view_that_other_code_fed_is_fed_again(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 4)

    class Doubled(Totals):
        """The next version of the projection: the same tables."""

        def apply(self, records: Sequence[Notification]) -> Iterable[Statement]:
            for sql, rows in super().apply(records):
                yield sql.replace("total + ?", "total + 2 * ?"), rows

    async with following(log, tmp_path) as view:
        assert await view.select(TOTALS) == [("ann", 10)]
    async with following(log, tmp_path, Doubled()) as view:
        assert await view.select(TOTALS) == [("ann", 20)]
    async with following(log, tmp_path, Doubled()) as view:
        assert (await view.behind(), await view.select(TOTALS)) == (0, [("ann", 20)])


async def test_a_file_with_the_checkpoint_of_earlier_versions_is_fed_again(log: SQLiteStore, tmp_path: Path) -> None:
    await append(log, 1, 4)
    with contextlib.closing(sqlite3.connect(tmp_path / "totals.view.sqlite")) as file:
        file.executescript(f"""
            CREATE TABLE position (one INTEGER PRIMARY KEY, position INTEGER, fact_id TEXT);
            CREATE TABLE made_with (one INTEGER PRIMARY KEY, tables TEXT, whole INTEGER);
            {Totals.tables};
            INSERT INTO position VALUES (1, 4, '');
            INSERT INTO totals VALUES ('ann', 99);
        """)
        file.execute("INSERT INTO made_with VALUES (1, ?, 1)", (Totals.tables,))
        file.commit()

    async with following(log, tmp_path) as view:
        assert await view.select(TOTALS) == [("ann", 10)]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param(b'{"user_id":"eve","amount":%d}' % 10**30, id="a number that no column takes"),
        pytest.param(b'{"user_id":"eve","amount":2000000}', id="a row that the table refuses"),
        pytest.param(b'{"user_id":null,"amount":1}', id="a field that is missing"),
    ],
)
async def test_a_record_that_the_view_cannot_take_is_passed_over(log: SQLiteStore, tmp_path: Path, body: bytes) -> None:
    """Else one fact that older code recorded would stop the service at every start."""
    await append(log, 1, 2)
    await log.insert_events([Record("account-eve", 1, "point.charged", body)])
    await append(log, 3, 4)

    async with following(log, tmp_path) as view:
        assert (await view.select(TOTALS))[0] == ("ann", 10)
    async with following(log, tmp_path) as view:
        await append(log, 5, 5)
        assert (await view.select(TOTALS))[0] == ("ann", 15)
    assert kept(tmp_path)[1] == [(6,)]
