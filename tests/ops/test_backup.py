"""A backup made beside the running shop, restored: the same history, whatever was lost since, or nothing is changed."""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.wire import fact_id
from infra import files
from infra.archive import bucket as bucket_module
from infra.broker.numbering import EVENTS
from infra.local.ports import free_ports
from infra.settings import SettingsError
from infra.store.statements import SCHEMA
from ops import data
from ops.backup import store_copies
from ops.backup.backup import _copy_archive
from ops.backup.manifest import checksum
from ops.backup.moves import HalfMoved, Move, move_all
from ops.backup.restore import Accepted, restore
from ops.errors import Found, Unreachable
from ops.progress import ProgressLines
from tests.infra.archive.test_archive import archived
from tests.infra.archive.test_archive import told as archived_message
from tests.ops.asking import orders, told
from tests.ops.damage import content, rows
from tests.shop import Shop, attempts, logged, open_shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    (tmp_path / "shop").mkdir()
    async with open_shop(tmp_path / "shop") as shop:
        await shop.register("mug", stock=1_000)
        await shop.charge("u1", 10_000)
        await trade(shop, "before")
        yield shop


async def trade(shop: Shop, key: str, orders: int = 8) -> None:
    for n in range(orders):
        answer = await shop.place([("mug", 1)], points=10, key=f"{key}{n}")
        assert answer.status_code == 200, answer.text
    await shop.until_quiet()


async def stop(shop: Shop) -> None:
    for name in [*shop.services, "nats"]:
        await shop.stop(name)


def logs(shop: Shop) -> dict[str, Any]:
    return {name: rows(shop, name) for name in shop.services}


def lose_all_data(shop: Shop) -> None:
    for name in [*shop.services, "nats"]:
        shutil.rmtree(shop.folder / name)
    for path in shop.folder.glob("*.identity"):
        path.unlink()


def named(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


async def good(shop: Shop) -> None:
    """The shop starts, takes an order, and passes the audit."""
    await shop.start_nats()
    await shop.start()
    await trade(shop, "good", 2)
    report = await told(shop, "audit", "--at-rest", "--full")
    assert report["verdict"] == "good"


async def test_a_backup_of_the_running_shop_is_restored_after_everything_was_lost(shop: Shop, tmp_path: Path) -> None:
    before = logs(shop)
    stream = [(event.sequence, event.fact_id) for event in await shop.events()]
    made = await told(shop, "backup", str(tmp_path / "b"))
    assert {name: copy["facts"] for name, copy in made["stores"].items()} == {n: len(log) for n, log in before.items()}
    assert made["streams"][EVENTS]["messages"] == len(stream)
    assert json.loads((tmp_path / "b" / "manifest.json").read_text()) == made
    await trade(shop, "later")
    await stop(shop)
    lose_all_data(shop)

    restored = await told(shop, "restore", str(tmp_path / "b"))

    assert restored["stores"] == {name: len(log) for name, log in before.items()}
    assert restored["streams"][EVENTS] == len(stream)
    assert logs(shop) == before
    await shop.start_nats()
    assert [(event.sequence, event.fact_id) for event in await shop.events()] == stream
    await shop.stop("nats")
    await good(shop)
    assert named(tmp_path, "*b*") == ["b"]
    assert named(shop.folder, ".*") == named(shop.folder / "nats", ".*") == []


async def test_a_backup_moves_to_another_place_whatever_its_name(shop: Shop, tmp_path: Path) -> None:
    backup = tmp_path / "100% of a?b#c"
    done = await orders(shop, "backup", str(backup))
    assert done.returncode == 0, done.stderr
    before = logs(shop)
    await stop(shop)
    (tmp_path / "other").mkdir()
    other = Shop(tmp_path / "other")
    try:
        await told(other, "restore", str(backup))
        assert logs(other) == before
        await good(other)
    finally:
        await other.close()


async def test_a_backup_under_load_is_one_consistent_cut(shop: Shop, tmp_path: Path) -> None:
    going = True

    async def busy(n: int) -> None:
        m = 0
        while going:
            m += 1
            await shop.place([("mug", 1)], points=1, key=f"busy{n}-{m}")

    tasks = [asyncio.create_task(busy(n)) for n in range(8)]
    try:
        for n in range(4):
            await told(shop, "backup", str(tmp_path / f"b{n}"))
    finally:
        going = False
        await asyncio.gather(*tasks)
    await shop.until_quiet()
    whole = logs(shop)
    await stop(shop)

    for n in range(4):
        await told(shop, "restore", str(tmp_path / f"b{n}"), "--yes")  # audits it
        found = logs(shop)
        assert all(found[name] == whole[name][: len(found[name])] for name in shop.services)
        ids = {row.fact_id for log in found.values() for row in log}
        assert all(row.fact.cause is None or row.fact.cause in ids for log in found.values() for row in log)
    await good(shop)


@pytest.mark.parametrize("missing", ["order-new@1", f"order-new@{10**20}"])
async def test_a_fact_without_its_cause_is_left_out_with_all_after_it(shop: Shop, tmp_path: Path, missing: str) -> None:
    """As if point_svc's store had been copied later than order_svc's."""
    stores = {name: shop.folder / name / "events.sqlite" for name in ("point", "order")}
    original = store_copies._copy

    def late(service: str, path: Path, to: Path) -> None:
        original(service, path, to)
        if service == "order":
            with contextlib.closing(sqlite3.connect(path)) as store, store:
                store.execute("INSERT INTO stored_events VALUES ('order-new', 1, 'order.created.pending', '{}')")
            for stream, cause in (("a", missing), ("b", "a@1"), ("c", "account-u1@1")):
                state = json.dumps({"cause": cause})
                with contextlib.closing(sqlite3.connect(stores["point"])) as store, store:
                    store.execute("INSERT INTO stored_events VALUES (?, 1, 'point.used', ?)", (stream, state))
                    store.execute("INSERT INTO snapshots VALUES (?, 1, 's', '{}')", (stream,))

    await stop(shop)
    before = {name: logged(shop.folder, name) for name in stores}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_copies, "_copy", late)
        made = store_copies.copy_all({name: stores[name] for name in ("order", "point")}, tmp_path / "b")

    assert {name: copy.facts for name, copy in made.items()} == before
    assert made["point"].left_out == 3
    with contextlib.closing(sqlite3.connect(tmp_path / "b" / "point" / "events.sqlite")) as copy:
        assert copy.execute("SELECT count(*) FROM snapshots WHERE originator_id IN ('a', 'b', 'c')").fetchone() == (0,)


@pytest.mark.parametrize("body", [b"", b'{"cause":"\xff"}', b'{"x":' + b"[" * 100_000])
def test_a_late_record_that_cannot_be_read_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """Whether it has a cause is not known; an audit finds it, in the store as in the copy."""
    path = tmp_path / "point.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.executescript(SCHEMA)
    original = store_copies._copy

    def late(service: str, path: Path, to: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as store, store:
            store.execute("INSERT INTO stored_events VALUES ('account-u1', 1, 'point.used', ?)", (body,))
        original(service, path, to)

    monkeypatch.setattr(store_copies, "_copy", late)
    made = store_copies.copy_all({"point": path}, tmp_path / "b")

    assert (made["point"].facts, made["point"].left_out) == (1, 0)


@pytest.mark.parametrize("table", ["sqlite_autoindex_stored_events_1", "stored_events"])
def test_a_store_with_a_damaged_page_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """The cut reads the damaged page: for a fact that was recorded while the stores were copied, or for its cause."""
    stores = {name: tmp_path / f"{name}.sqlite" for name in ("order", "point")}
    for path in stores.values():
        with contextlib.closing(sqlite3.connect(path)) as store, store:
            store.executescript(SCHEMA)
            store.execute("INSERT INTO stored_events VALUES ('order-o', 1, 'order.created.pending', '{}')")
    original = store_copies._copy

    def late(service: str, path: Path, to: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as store, store:
            state = json.dumps({"cause": "order-o@1"})
            store.execute("INSERT INTO stored_events VALUES ('later', 1, 'point.used', ?)", (state,))
        if service == "order":
            damage_page(path, table)
        original(service, path, to)

    monkeypatch.setattr(store_copies, "_copy", late)
    with pytest.raises(Found, match=r"the store of order_svc is damaged: .*just rebuild order"):
        store_copies.copy_all(stores, tmp_path / "b")


def a_store(path: Path) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.executescript(SCHEMA)
    return path


def test_a_copy_that_cannot_be_made_is_told_from_a_store_that_cannot_be_read(tmp_path: Path) -> None:
    path = a_store(tmp_path / "point.sqlite")
    (tmp_path / "b" / "point" / "events.sqlite").mkdir(parents=True)

    with pytest.raises(Unreachable, match=rf"{path}, cannot be copied to {tmp_path}/b/point/events\.sqlite"):
        store_copies.copy_all({"point": path}, tmp_path / "b")


def test_a_copy_that_cannot_be_cut_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = a_store(tmp_path / "point.sqlite")
    original = store_copies._copy

    def late(service: str, path: Path, to: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as store, store:
            store.execute("INSERT INTO stored_events VALUES ('a', 1, 'point.used', '{\"cause\":\"order-new@1\"}')")
        original(service, path, to)

    def full(*_: object) -> int:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(store_copies, "_copy", late)
    monkeypatch.setattr(store_copies, "_remove", full)
    with pytest.raises(Unreachable, match=rf"copies in {tmp_path}/b cannot .* full\. Its disk is full: make room"):
        store_copies.copy_all({"point": path}, tmp_path / "b")


def damage_page(path: Path, table: str) -> None:
    """Overwrite the first page of a table or an index."""
    with contextlib.closing(sqlite3.connect(path)) as store:
        ((page,),) = store.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        ((size,),) = store.execute("PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


async def test_stores_alone_are_backed_up_without_the_broker_and_the_relays_write_the_stream(
    shop: Shop, tmp_path: Path
) -> None:
    await stop(shop)
    before = logs(shop)
    refused = await orders(shop, "backup", str(tmp_path / "b"))
    assert refused.returncode == 3
    assert "cannot be read" in refused.stderr
    assert named(tmp_path, "*b*") == []

    made = await told(shop, "backup", str(tmp_path / "b"), "--stores-only")
    assert made["streams"] == {}
    await told(shop, "restore", str(tmp_path / "b"), "--yes")

    assert not (shop.folder / "nats" / "jetstream").exists()
    assert logs(shop) == before
    await good(shop)


async def test_existing_data_is_replaced_only_if_asked_and_kept_aside(shop: Shop, tmp_path: Path) -> None:
    await told(shop, "backup", str(tmp_path / "b"))
    before = logs(shop)
    await trade(shop, "later")
    later = logs(shop)

    running = await orders(shop, "restore", str(tmp_path / "b"), "--yes")
    assert running.returncode == 2
    assert f"process {shop.processes['order'].pid} works on this data: stop the system first" in running.stderr
    for name in shop.services:
        await shop.stop(name)
    running = await orders(shop, "restore", str(tmp_path / "b"), "--yes")
    assert running.returncode == 2
    assert "stop" in running.stderr
    await shop.stop("nats")
    refused = await orders(shop, "restore", str(tmp_path / "b"))
    assert refused.returncode == 2
    assert "has data already" in refused.stderr
    assert "--yes" in refused.stderr
    assert logs(shop) == later

    done = await told(shop, "restore", str(tmp_path / "b"), "--yes")
    assert logs(shop) == before
    aside = {Path(path).name: Path(path) for path in done["aside"]}
    assert set(shop.services) | {"jetstream"} <= set(aside)
    with contextlib.closing(sqlite3.connect(aside["order"] / "events.sqlite")) as log:
        assert log.execute("SELECT count(*) FROM stored_events").fetchone() == (len(later["order"]),)
    await good(shop)


@pytest.mark.parametrize("folder", ["full", "file"])
async def test_a_backup_needs_a_folder_of_its_own(shop: Shop, tmp_path: Path, folder: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    (tmp_path / "file").touch()

    done = await orders(shop, "backup", str(tmp_path / folder))

    assert done.returncode == 2
    assert named(tmp_path / "full", "*") == ["something"]
    assert named(tmp_path, ".*") == []


async def change(folder: Path) -> str:
    path = folder / "point" / "events.sqlite"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    return "point/events.sqlite has changed"


async def remove(folder: Path) -> str:
    next((folder / EVENTS).glob("stream.*")).unlink()
    return "cannot be read"


async def forge(folder: Path) -> str:
    """Other content with its checksum: only the audit sees it."""
    path = folder / "point" / "events.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute(
            "UPDATE stored_events SET state = CAST(replace(state, '10000', '90000') AS BLOB)"
            " WHERE topic = 'point.charged'"
        )
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["checksums"]["point/events.sqlite"] = checksum(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return "does not pass the audit"


async def forget(folder: Path) -> str:
    """A stream's data is neither there nor in the manifest."""
    data = next((folder / EVENTS).glob("stream.*"))
    data.unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksums"][f"{EVENTS}/{data.name}"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return "manifest.json has no checksum of EVENTS/stream.arc.s2 or EVENTS/stream.tar.s2"


@pytest.mark.parametrize("damage", [change, remove, forge, forget])
async def test_a_damaged_backup_replaces_nothing(shop: Shop, tmp_path: Path, damage: Any) -> None:
    await told(shop, "backup", str(tmp_path / "b"))
    await stop(shop)
    before = logs(shop)
    expected = await damage(tmp_path / "b")

    done = await orders(shop, "restore", str(tmp_path / "b"), "--yes")

    assert done.returncode == 1, done.stdout + done.stderr
    assert expected in done.stderr
    assert logs(shop) == before
    assert named(shop.folder, ".*") == []
    await good(shop)
    if damage is forge:
        await stop(shop)
        restored = await told(shop, "restore", str(tmp_path / "b"), "--yes", "--accept-findings")
        assert restored["findings"][0] in done.stderr


async def test_another_folder_is_no_backup(shop: Shop, tmp_path: Path) -> None:
    await stop(shop)
    done = await orders(shop, "restore", str(tmp_path))
    assert done.returncode == 2
    assert "is not a backup" in done.stderr
    assert "manifest.json" in done.stderr


class Silent:
    def begins(self, what: str, items: int) -> None: ...
    def advances(self, items: int) -> None: ...


async def test_folders_that_are_roots_of_file_systems_are_restored_into(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if DATA_DIR and NATS_STORE_DIR were two mount points."""
    await told(shop, "backup", str(tmp_path / "b"))
    before = logs(shop)
    await trade(shop, "later")
    await stop(shop)
    rename = files.rename

    def root(path: Path) -> Path | None:
        roots = (shop.folder / "nats", shop.folder)
        return next((root for root in roots if root in path.parents), None)

    def within(old: Path, new: Path) -> None:
        if root(old) != root(new):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(old))
        rename(old, new)

    monkeypatch.setattr(files, "rename", within)
    await restore(shop.env, tmp_path / "b", Silent(), Accepted(replace=True))

    assert logs(shop) == before
    await good(shop)


async def test_nobody_else_works_on_the_place_of_a_restore_even_if_it_is_new(shop: Shop, tmp_path: Path) -> None:
    await told(shop, "backup", str(tmp_path / "b"))
    other = Shop(tmp_path / "other")
    refused = []

    class Second(Silent):
        def begins(self, what: str, items: int) -> None:
            if (other.folder / data.RESTORING).exists():
                with (
                    pytest.raises(data.InUse, match=f"process {os.getpid()} works on this data"),
                    data.unused(other.env, [], "nothing was removed"),
                ):
                    pass
                refused.append(what)

    await restore(other.env, tmp_path / "b", Second(), Accepted())

    assert refused
    assert named(other.folder, ".*") == []
    assert logs(other) == logs(shop)


@pytest.mark.parametrize("last", ["order", "jetstream"])
async def test_old_data_is_moved_back_if_new_data_cannot_be_moved(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    await told(shop, "audit")
    await told(shop, "backup", str(tmp_path / "b"))
    await trade(shop, "later")
    await stop(shop)
    before, rename = content(shop.folder), files.rename

    def fails(old: Path, new: Path) -> None:
        if new.name == last and data.RESTORING in old.parts:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(old))
        rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(files, "rename", fails)
        with pytest.raises(SettingsError, match="cross-device link; nothing was replaced"):
            await restore(shop.env, tmp_path / "b", Silent(), Accepted(replace=True))

    assert content(shop.folder) == before
    assert [*shop.folder.rglob(".*"), *shop.folder.rglob("replaced-*")] == []
    await good(shop)


async def test_data_that_cannot_be_moved_back_can_be_by_hand(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(shop, "backup", str(tmp_path / "b"))
    await stop(shop)
    before, rename = content(shop.folder), files.rename

    def fails(old: Path, new: Path) -> None:
        failing = new.name == "jetstream" and data.RESTORING in old.parts
        if failing or new.parts[-2:] == (data.RESTORING, "order"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(old))
        rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(files, "rename", fails)
        with pytest.raises(HalfMoved) as half:
            await restore(shop.env, tmp_path / "b", Silent(), Accepted(replace=True))

    _, _, moves = str(half.value).partition("could not be moved back: move ")
    for old, new in (move.split(" to ") for move in moves.split(", ")):
        rename(Path(old), Path(new))
    assert {path: its for path, its in content(shop.folder).items() if data.RESTORING not in path} == before
    await told(shop, "restore", str(tmp_path / "b"), "--yes")
    assert named(shop.folder, ".*") == []


def test_all_is_moved_back_if_the_moves_cannot_be_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "place").write_text("old")
    (tmp_path / "made").write_text("new")
    before, sync = content(tmp_path), files.sync_folder
    moved: list[dict[str, bytes]] = []

    def fails(folder: Path) -> None:
        if not moved and not (tmp_path / "made").exists():  # the first one after all moves
            moved.append(content(tmp_path))
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))
        sync(folder)

    monkeypatch.setattr(files, "sync_folder", fails)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        move_all([Move(tmp_path / "place", tmp_path / "a" / "place"), Move(tmp_path / "made", tmp_path / "place")])

    assert moved == [{"a/place": b"old", "place": b"new"}]
    assert content(tmp_path) == before
    assert named(tmp_path, "*") == ["made", "place"]


def test_what_cannot_be_moved_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").touch()
    rename = files.rename

    def once(old: Path, new: Path) -> None:
        if new.name != "aside":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(old))
        rename(old, new)

    monkeypatch.setattr(files, "rename", once)
    moves = [Move(tmp_path / "old", tmp_path / "a" / "aside"), Move(tmp_path / "new", tmp_path / "old")]
    with pytest.raises(HalfMoved, match=f"move {tmp_path}/a/aside to {tmp_path}/old"):
        move_all(moves)
    assert (tmp_path / "a" / "aside").exists()


async def test_an_audit_of_the_replaced_data_does_not_judge_the_restored(shop: Shop, tmp_path: Path) -> None:
    await told(shop, "backup", str(tmp_path / "b"))
    await trade(shop, "later")
    assert (await told(shop, "audit"))["verdict"] == "good"
    await stop(shop)

    restored = await told(shop, "restore", str(tmp_path / "b"), "--yes")

    assert "audit" in {Path(path).name for path in restored["aside"]}
    await shop.start_nats()
    await shop.start()
    await shop.until_quiet()
    assert (await told(shop, "audit"))["verdict"] == "good"


async def test_acknowledged_foreign_messages_are_backed_up(shop: Shop, tmp_path: Path) -> None:
    async with shop.broker() as nc:
        await nc.jetstream().publish("order.created.pending.broken", b"no JSON")
    async for _ in attempts("the dead letter"):
        if await dead_letters(shop):
            break
    assert (await told(shop, "audit", "--foreign", "all"))["foreign"] == {"known": 1, "found": 0}
    known = (shop.folder / "foreign.json").read_bytes()
    made = await told(shop, "backup", str(tmp_path / "b"))
    assert made["checksums"]["foreign.json"] == checksum(shop.folder / "foreign.json")
    await stop(shop)
    (tmp_path / "other").mkdir()
    other = Shop(tmp_path / "other")
    try:
        assert (await told(other, "restore", str(tmp_path / "b")))["findings"] == []
        assert (other.folder / "foreign.json").read_bytes() == known
        await good(other)
    finally:
        await other.close()

    (shop.folder / "foreign.json").write_bytes(b"[]")
    await told(shop, "restore", str(tmp_path / "b"), "--yes")
    assert (shop.folder / "foreign.json").read_bytes() == known


async def dead_letters(shop: Shop) -> Any:
    return json.loads((await orders(shop, "dlq", "ls", "--json")).stdout)


async def test_dead_letters_are_restored_and_not_made_twice(shop: Shop, tmp_path: Path) -> None:
    async with shop.broker() as nc:
        await nc.jetstream().publish("order.created.pending.broken", b"no JSON")
    async for _ in attempts("the dead letter"):
        if letters := await dead_letters(shop):
            break
    await told(shop, "backup", str(tmp_path / "b"))
    await stop(shop)
    lose_all_data(shop)

    await told(shop, "restore", str(tmp_path / "b"), "--accept-findings")  # a message of no service

    await shop.start_nats()
    await shop.start()
    await shop.until_quiet()
    assert await dead_letters(shop) == letters


# Stores of different age ----------------------------------------------------------------------------------------------


async def older_store(shop: Shop, tmp_path: Path) -> None:
    """point_svc's store is put back as of a backup; all other data is newer."""
    await told(shop, "backup", str(tmp_path / "old"))
    await trade(shop, "later")
    await shop.stop("point")
    shutil.copyfile(tmp_path / "old" / "point" / "events.sqlite", shop.folder / "point" / "events.sqlite")


async def raw_copy(shop: Shop, tmp_path: Path) -> None:
    """The file alone of a live store is put back: without its write-ahead log it lacks the newest records."""
    shutil.copyfile(shop.folder / "point" / "events.sqlite", tmp_path / "copy.sqlite")
    await trade(shop, "later")
    await shop.stop("point")
    shutil.copyfile(tmp_path / "copy.sqlite", shop.folder / "point" / "events.sqlite")


@pytest.mark.parametrize("put_back", [older_store, raw_copy])
async def test_a_store_that_is_older_than_the_stream_is_told_and_mended_by_a_rebuild(
    shop: Shop, tmp_path: Path, put_back: Any
) -> None:
    await put_back(shop, tmp_path)
    await shop.start("point", ready=False)

    async for _ in attempts("point_svc to say what is wrong"):
        with contextlib.suppress(Exception):
            answer = await shop.get("point", "/readyz")
            if "just rebuild point" in answer.text:
                break
    assert answer.status_code == 503
    await shop.stop("point")
    await told(shop, "rebuild", "point", "--lose-damaged")
    await shop.start("point")
    await shop.until_quiet()

    assert (await told(shop, "audit", "--at-rest", "--full"))["verdict"] == "good"


async def test_a_store_that_is_newer_than_the_stream_is_published(shop: Shop, tmp_path: Path) -> None:
    """The stores go on, the broker is put back."""
    await told(shop, "backup", str(tmp_path / "b"))
    await trade(shop, "later")
    await stop(shop)
    kept = shutil.copytree(shop.folder, tmp_path / "kept")
    await told(shop, "restore", str(tmp_path / "b"), "--yes")
    for name in shop.services:
        shutil.rmtree(shop.folder / name)
        shutil.copytree(kept / name, shop.folder / name)

    await good(shop)

    published = {event.fact_id for event in await shop.events()}
    assert published == {fact_id(row.stream, row.version) for log in logs(shop).values() for row in log}


async def test_two_stores_of_different_age_with_the_older_stream_are_found_by_the_audit(
    shop: Shop, tmp_path: Path
) -> None:
    await told(shop, "backup", str(tmp_path / "b"))
    await trade(shop, "later")
    await stop(shop)
    kept = shutil.copytree(shop.folder / "point", tmp_path / "point")
    await told(shop, "restore", str(tmp_path / "b"), "--yes")
    shutil.rmtree(shop.folder / "point")
    shutil.copytree(kept, shop.folder / "point")

    await shop.start_nats()
    await shop.start()
    await shop.until_quiet()
    done = await orders(shop, "audit", "--at-rest", "--full")

    assert done.returncode == 1, done.stdout
    await stop(shop)
    await told(shop, "restore", str(tmp_path / "b"), "--yes")
    await good(shop)


def test_a_copied_archive_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is synced, and then the folder that names it; a manifest is written whole, as `files.write` does."""
    archived(tmp_path / "archive")
    archived(tmp_path / "archive", 1, [archived_message(1_000_000_001)])
    durable: set[Path] = set()
    copied: set[Path] = set()
    copy = shutil.copyfile

    def copyfile(one: Path, other: Path) -> None:
        copied.add(other)
        copy(one, other)

    def sync_folder(folder: Path) -> None:
        durable.update(path for path in copied if path.parent == folder)

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    monkeypatch.setattr(files, "sync_folder", sync_folder)

    _copy_archive({"ARCHIVE_DIR": str(tmp_path / "archive")}, tmp_path / "copy", ProgressLines())

    assert len(copied) > 4
    assert copied == durable


def test_a_bucket_that_goes_away_before_its_manifests_are_copied_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "RETRIES", 0)
    store = f"http://127.0.0.1:{free_ports(1)[0]}"
    env = {"ARCHIVE_URL": "s3://shop/saga", "ARCHIVE_ENDPOINT": store, "DATA_DIR": str(tmp_path)}
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")

    with pytest.raises(Unreachable, match="no backup was made: the archive's bucket s3://shop/saga cannot be used"):
        _copy_archive(env, tmp_path / "copy", ProgressLines())


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda part: part.write_bytes(part.read_bytes()[:-1] + b"?"), "is not what its manifest says"),
        (lambda part: part.write_bytes(part.read_bytes()[:-1]), "is not what its manifest says"),
        (Path.unlink, "is missing"),
    ],
    ids=["changed", "cut off", "missing"],
)
def test_a_damaged_archive_is_not_backed_up(tmp_path: Path, damage: Callable[[Path], object], told: str) -> None:
    archived(tmp_path / "archive")
    part = tmp_path / "archive" / EVENTS / "part-000.jsonl.gz"
    damage(part)

    with pytest.raises(Found, match=f"no backup was made: {part} {told}. Put a copy of the archive back"):
        _copy_archive({"ARCHIVE_DIR": str(tmp_path / "archive")}, tmp_path / "copy", ProgressLines())
