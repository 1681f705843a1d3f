"""A service's store rebuilt from the stream a day left: the same table byte for byte, or nothing is changed."""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from contracts import PointCharged
from contracts.wire import POSITION, STREAM, VERSION, encode
from infra.broker.client import VERSION_LINE
from infra.local.services import service_names
from infra.settings import SettingsError
from infra.store.statements import SCHEMA
from infra.timestamps import now
from ops import reading
from ops.errors import Found, Unreachable
from ops.foreign import KnownForeign
from ops.rebuild.collecting import collect, new_store
from ops.rebuild.store import Allowed, _compare
from tests.ops import damage
from tests.ops.asking import orders, told
from tests.ops.damage import rows
from tests.saga.rush import Rush
from tests.shop import Shop, log_of, open_shop


async def balances(shop: Shop) -> list[Any]:
    """What the services answer about what there is to have."""
    return [
        (await shop.get("product", "/products?limit=100")).json(),
        [await shop.balance(f"customer{number}") for number in range(50)],
        [await shop.coupon_used_by(f"customer{number}-spent") for number in range(5)],
    ]


def files(folder: Path) -> dict[str, bytes]:
    """What a service's folder has, but for the lock and SQLite's shared memory."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "lock"}


async def test_every_store_is_the_same_byte_for_byte_and_the_shop_goes_on(left: Shop) -> None:
    before = {name: rows(left, name) for name in service_names()}
    await left.start_nats()
    for name in service_names():
        (left.folder / name / "events.sqlite").unlink()

    rebuilt = {name: await told(left, "rebuild", name) for name in service_names()}

    assert {name: rows(left, name) for name in service_names()} == before
    assert {name: report["facts"] for name, report in rebuilt.items()} == {n: len(log) for n, log in before.items()}
    assert [report["lost"] for report in rebuilt.values()] == [0, 0, 0, 0]
    stores = [left.folder / name / "events.sqlite" for name in service_names()]
    assert [Path(report["store"]) for report in rebuilt.values()] == stores
    await left.start()
    await left.until_quiet()
    assert {name: rows(left, name) for name in service_names()} == before
    assert len({event.fact_id for event in await left.events()}) == sum(map(len, before.values()))
    assert (await left.place([("product1", 1)], user="customer1", key="after")).status_code == 200
    await left.until_quiet()
    assert (await told(left, "audit", "--at-rest"))["verdict"] == "good"


async def test_what_a_service_answers_is_the_same_afterwards(running: Shop) -> None:
    before = await balances(running)
    for name in service_names():
        await running.stop(name)
        done = await orders(running, "rebuild", f"{name}_svc")
        assert done.returncode == 0, done.stderr
        assert "the old store is in" in done.stdout
        (aside,) = (running.folder / name).glob("replaced-*")
        assert {"events.sqlite"} <= {path.name for path in aside.iterdir()}
    await running.start()
    await running.until_quiet()

    assert await balances(running) == before


async def test_a_stream_that_is_lost_is_written_again_by_the_relays(running: Shop) -> None:
    await running.stop("nats")
    running.lose_stream()
    await running.start_nats()
    await running.until_quiet()

    events = {(event.fact_id, event.raw) for event in await running.events()}
    assert events == {(row.fact_id, row.body) for name in service_names() for row in rows(running, name)}
    assert (await told(running, "audit", "--at-rest"))["verdict"] == "good"


async def test_repeats_and_disorder_in_the_stream_do_not_matter(tmp_path: Path) -> None:
    async with open_shop(tmp_path, DUPLICATE_WINDOW_S="0.1") as shop:
        rush = Rush(shop, 60)
        await rush.prepare()
        await rush.place()
        await shop.until_quiet()
        before = rows(shop, "point")
        for _ in range(2):
            for record in before[-20:]:
                await damage.publish_again(shop, record)
        assert len(await shop.events()) > len({event.fact_id for event in await shop.events()})
        await shop.stop("point")
        await damage.rewrite_stream(shop, lambda events: [*events[len(events) // 2 :], *events])

        await told(shop, "rebuild", "point")

        assert rows(shop, "point") == before


async def test_a_running_service_is_not_touched(running: Shop) -> None:
    done = await orders(running, "rebuild", "point")

    assert done.returncode == 2
    assert "point_svc is running" in done.stderr
    await running.charge("customer1", 1, key="still-there")


async def test_what_the_stream_has_not_is_lost_only_if_it_may_be(left: Shop) -> None:
    await left.start_nats()
    published = rows(left, "point")
    damage.append(left, replace(damage.row(left, "point.deposited").fact, user_id="eve"))
    before = files(left.folder / "point")

    refused = await orders(left, "rebuild", "point")
    assert refused.returncode == 1
    assert "1 facts of point_svc are not in the stream, from account-eve@1" in refused.stderr
    assert rows(left, "point")[:-1] == published
    assert files(left.folder / "point").keys() == before.keys()

    accepted = await told(left, "rebuild", "point", "--lose-unpublished")
    assert (accepted["lost"], rows(left, "point")) == (1, published)
    with contextlib.closing(sqlite3.connect(Path(accepted["aside"]) / "events.sqlite")) as aside:
        assert aside.execute("SELECT count(*) FROM stored_events").fetchone() == (len(published) + 1,)


async def hole(shop: Shop) -> str:
    lost = damage.row(shop, "point.used")
    await damage.unpublish(shop, lost.fact_id)
    return f"lacks position {lost.position} of point_svc's log"


async def other_bytes_than_the_store(shop: Shop) -> str:
    used = damage.row(shop, "point.used")
    await damage.republish(shop, used.fact_id, encode(replace(used.fact, points=used.fact.points + 1)))
    return f"position {used.position} of point_svc's log is {used.fact_id} in the store and something else"


async def two_versions_out_of_turn(shop: Shop) -> str:
    found = {(row.stream, row.version): row for row in damage.rows(shop, "point") if row.version > 1}
    one = next(row for (stream, version), row in found.items() if (stream, version + 1) in found)
    other = found[one.stream, one.version + 1]
    swapped = {one.fact_id: other.position, other.fact_id: one.position}
    await damage.rewrite_stream(
        shop, lambda events: [e._replace(position=swapped.get(e.fact_id, e.position)) for e in events]
    )
    return f"{other.fact_id} is at position {one.position}, where version {one.version} must be"


async def message_that_says_something_else(shop: Shop) -> str:
    used = damage.row(shop, "point.used")
    await damage.rewrite_stream(
        shop,
        lambda events: [
            e._replace(subject=f"point.refunded.{used.fact.order_id}") if e.fact_id == used.fact_id else e
            for e in events
        ],
    )
    return f"lacks position {used.position} of point_svc's log"


@pytest.mark.parametrize(
    "damaging",
    [
        hole,
        other_bytes_than_the_store,
        two_versions_out_of_turn,
        message_that_says_something_else,
    ],
)
async def test_a_stream_that_is_not_the_logs_copy_changes_nothing(damaging: damage.Damage, left: Shop) -> None:
    await left.start_nats()
    what = await damaging(left)
    before = rows(left, "point")

    done = await orders(left, "rebuild", "point", "--lose-unpublished", "--lose-damaged")

    assert (done.returncode, done.stdout) == (1, "")
    assert what in done.stderr
    assert rows(left, "point") == before
    assert not list((left.folder / "point").glob("replaced-*"))
    assert not list((left.folder / "point").glob(".*"))


async def test_a_store_that_cannot_be_read_is_given_up_only_if_it_may_be(left: Shop) -> None:
    before = rows(left, "coupon")
    await left.start_nats()
    store = left.folder / "coupon" / "events.sqlite"
    store.write_bytes(b"not a database at all " * 1_000)

    refused = await orders(left, "rebuild", "coupon")
    assert refused.returncode == 1
    assert "--lose-damaged" in refused.stderr
    assert store.read_bytes().startswith(b"not a database")

    await told(left, "rebuild", "coupon", "--lose-damaged")
    assert rows(left, "coupon") == before
    await left.start()
    await left.until_quiet()


def test_a_new_store_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"

    def fill() -> None:
        with new_store(new) as store:
            store.execute("PRAGMA max_page_count = 10")
            store.execute("INSERT INTO stored_events VALUES ('a', 1, 'point.charged', zeroblob(100000))")

    with pytest.raises(Unreachable, match=rf"{new}, cannot be written: .*full\. Its disk is full: make room"):
        fill()


def test_a_store_that_another_process_reads_is_not_replaced(tmp_path: Path) -> None:
    """Its write-ahead log has facts that the file lacks, and would be moved away before the new store is in place."""
    path = tmp_path / "events.sqlite"
    with new_store(tmp_path / "new.sqlite") as new, contextlib.closing(sqlite3.connect(path)) as old:
        new.execute("PRAGMA busy_timeout = 0")
        old.executescript(f"PRAGMA journal_mode=WAL; {SCHEMA}")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM stored_events").fetchall()
            with old:
                old.execute("INSERT INTO stored_events VALUES ('account-u1', 1, 'point.deposited', '{}')")

            with pytest.raises(SettingsError, match=f"another process reads {path}"):
                _compare(new, path, "point", Allowed(unpublished=True))

        assert _compare(new, path, "point", Allowed(unpublished=True)) == 1
        assert path.with_name("events.sqlite-wal").stat().st_size == 0


@pytest.mark.parametrize("content", [b"not a database at all " * 1_000, b""], ids=["no database", "no table"])
async def test_an_old_store_that_cannot_be_read_settles_no_contradiction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    def charged(sequence: int, amount: int) -> reading.Read:
        fact = PointCharged(at=now(), user_id="u1", amount=amount, idempotency_key="k")
        head = f"{VERSION_LINE}\r\n{STREAM}: {fact.stream}\r\n{VERSION}: 1\r\n{POSITION}: 1\r\n\r\n".encode()
        return reading.Read(sequence, "point.charged.u1", f"{fact.stream}@1", encode(fact), head, 0)

    async def chunks(*_: object) -> AsyncIterator[list[reading.Read]]:
        yield [charged(1, 5), charged(2, 6)]

    old = tmp_path / "old.sqlite"
    old.write_bytes(content)
    monkeypatch.setattr(reading, "chunks", chunks)
    with new_store(tmp_path / "new.sqlite") as store, pytest.raises(Found, match="contradicts an earlier message"):
        await collect(cast(reading.Stream, None), "point", store, lambda _: None, known=KnownForeign(), old=old)

    assert old.read_bytes() == content


@pytest.mark.parametrize("step", range(1, 10))
async def test_killed_at_any_step_it_leaves_a_store_and_can_be_done_again(step: int, left: Shop) -> None:
    before = rows(left, "product")
    await left.start_nats()

    killed = await orders(left, "rebuild", "product", wrapper="tests.wrappers.rebuild_crash", CRASH_AT=str(step))

    assert killed.returncode in (-9, 0), killed.stderr
    assert (killed.returncode == 0) == (step == 9), "as many steps as there are are tried, and one more"
    assert rows(left, "product") == before
    await told(left, "rebuild", "product")
    assert rows(left, "product") == before
    await left.start()
    await left.until_quiet()
    assert len(log_of(left.folder, "product")) == len(before)


async def test_a_dry_run_proves_and_changes_nothing(left: Shop) -> None:
    await left.start_nats()
    before = files(left.folder / "order")

    report = await told(left, "rebuild", "order", "--dry-run")

    assert (report["facts"], report["aside"], report["dry_run"]) == (len(rows(left, "order")), None, True)
    assert files(left.folder / "order") == before


async def test_exit_codes_tell_scripts_what_is_wrong(left: Shop, tmp_path: Path) -> None:
    away = await orders(left, "rebuild", "order")
    await left.start_nats()
    shutil.rmtree(left.folder / "nats")
    await left.stop("nats")
    await left.start_nats()
    no_stream = await orders(left, "rebuild", "order")
    no_view = await orders(left, "rebuild", "popular", "--dry-run")

    assert [done.returncode for done in (away, no_stream, no_view)] == [3, 3, 2]
    assert json.loads((await orders(left, "rebuild", "order", "--json")).stdout or "{}") == {}
