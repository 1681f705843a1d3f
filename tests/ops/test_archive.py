"""`orders archive` on a broker and stores without services: what has to stay, the proof, and a crash at any step."""

import asyncio
import contextlib
import json
import re
import sqlite3
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION
from infra import files
from infra.archive.bucket import Bucket
from infra.archive.manifest import ArchivedLog, LogRange
from infra.archive.reader import Archive
from infra.archive.writing import FileWriter
from infra.broker.consumers import consumer_config
from infra.broker.generations import find_generations
from infra.broker.rolling import Sealing, roll
from infra.settings import Settings, SettingsError, load
from ops import reading, stores
from ops.archive import archiving, proof
from ops.archive.archiving import Archived, archive
from ops.archive.open_orders import open_orders
from ops.archive.readiness import listeners
from ops.backup import stream_snapshots
from ops.errors import Found, Unreachable
from ops.foreign import KnownForeign
from ops.progress import ProgressLines
from tests.object_store import KEY_ID, SECRET, ObjectStore, object_store
from tests.ops.asking import orders
from tests.shop import Shop, generations


class Left(NamedTuple):
    """What services left: a broker with EVENTS sealed and EVENTS_1 with some facts, and their stores."""

    shop: Shop
    js: JetStreamContext
    store: ObjectStore | None = None
    """The store whose bucket is the archive; None: it is the folder."""

    async def archive(self) -> Archived:
        return await archive(self.shop.env, ProgressLines())

    async def streams(self) -> list[str]:
        return await generations(self.js)

    @property
    def folder(self) -> Path:
        return self.shop.folder / "archive"

    @property
    def found(self) -> Archive:
        """What is archived now."""
        return Archive(self.folder if self.store is None else Bucket(load(Settings, "nats", 4_222, self.shop.env)))

    @property
    def manifests(self) -> int:
        return len(self.found.manifests)

    @property
    def a_part(self) -> Path:
        """The only file with messages of EVENTS in the archive: in a bucket its object is a file, too."""
        (path,) = (self.folder if self.store is None else self.store.objects).glob("EVENTS/**/part-000.jsonl.gz")
        return path


on_both = pytest.mark.parametrize("left", ["folder", "bucket"], indirect=True)
"""The archive is a folder, or a bucket of a real store."""


@pytest.fixture
async def left(
    left: Shop, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Left]:
    """The day of many orders, rolled over and sealed; the services have heard all and are stopped."""
    await left.start_nats()
    with contextlib.ExitStack() as stack:
        store = None
        if getattr(request, "param", "folder") == "bucket":
            store = stack.enter_context(object_store(tmp_path / "store"))
            left.env |= store.env
            for name, value in store.env.items():
                monkeypatch.setenv(name, value)
        async with left.broker() as nc:
            js = nc.jetstream()
            await roll(nc, js, Settings(port=1), "a test")
            await js.publish("l1.mark.it", b"{}")
            await Sealing(0.0).look(js, await find_generations(nc, js), 0.0)
            yield Left(left, js, store)


@on_both
async def test_a_generation_becomes_files_and_leaves_the_broker(left: Left) -> None:
    messages = (await left.js.stream_info("EVENTS")).state.messages

    done = await left.archive()

    (one,) = done.archived
    assert (one.stream, one.messages, done.deleted, done.kept) == ("EVENTS", messages, ["EVENTS"], {})
    assert 0 < one.archive_bytes < one.stream_bytes / 3
    assert await left.streams() == ["EVENTS_1"]
    (manifest,) = left.found.manifests
    for service in left.shop.services:
        assert left.found.log_of(service).until == facts(left.shop, service)
    assert sum(one.messages for one in manifest.names.values()) == manifest.messages
    assert await left.archive() == Archived(left.found.place.title, [], [], {})  # nothing more to do


@on_both
async def test_a_dry_run_says_what_could_be_archived_and_makes_nothing(left: Left) -> None:
    def there() -> list[str]:
        found = (path.relative_to(left.shop.folder) for path in left.shop.folder.rglob("*"))
        return sorted(str(path) for path in found if path.parts[0] != "nats")

    before = there()

    done = await orders(left.shop, "archive", "--dry-run")

    assert (done.returncode, done.stdout) == (0, "EVENTS could be archived\n")
    assert (await left.streams(), left.manifests) == (["EVENTS", "EVENTS_1"], 0)
    assert there() == before


async def test_a_dry_run_is_refused_while_another_run_is_at_work(left: Left) -> None:
    refused = pytest.raises(SettingsError, match="already: wait until it has ended")
    with archiving.archive_lock(load(Settings, "nats", 4_222, left.shop.env)), refused:
        await archive(left.shop.env, ProgressLines(), dry_run=True)


def facts(shop: Shop, service: str) -> int:
    with closing(sqlite3.connect(shop.folder / service / "events.sqlite")) as store, store:
        return int(store.execute("SELECT count(*) FROM stored_events").fetchone()[0])


# What has to stay -----------------------------------------------------------------------------------------------------


async def a_lagging_consumer(left: Left) -> str:
    await left.js.add_consumer("EVENTS", consumer_config("point-hears-order-canceled", "order.canceled", 100))
    await left.js.delete_consumer("EVENTS", "point-hears-order-canceled")
    await left.js.add_consumer("EVENTS", consumer_config("point-hears-order-canceled", "order.canceled", 100))
    return "the consumer point-hears-order-canceled of EVENTS has"


async def a_missing_consumer(left: Left) -> str:
    await left.js.delete_consumer("EVENTS", "coupon-hears-point-used")
    return "coupon has never heard EVENTS: start coupon_svc"


async def a_view_that_is_missing(left: Left) -> str:
    await left.js.delete_consumer("EVENTS", "product-popular-hears-order-confirmed")
    return "product-popular has never heard EVENTS: start product_svc"


async def a_consumer_of_another(left: Left) -> str:
    await left.js.add_consumer("EVENTS", consumer_config("lake", None, 100))
    return "nats consumer rm EVENTS lake"


async def one_of_very_many_consumers(left: Left) -> str:
    """The server lists 256 at a time."""
    for n in range(256):
        config = ConsumerConfig(name=f"a{n}", deliver_policy=DeliverPolicy.NEW, ack_policy=AckPolicy.NONE)
        await left.js.add_consumer("EVENTS", config)
    return await a_consumer_of_another(left)


async def a_dead_letter(left: Left) -> str:
    headers = {"Dead-Sequence": "7", "Dead-Error": "no"}
    ack = await left.js.publish("dead.point.o1", b"{}", headers=headers)
    return f"dead letters are of messages in EVENTS: {ack.seq}. Redrive or drop them (just dlq redrive {ack.seq})"


async def an_open_order(left: Left) -> str:
    with closing(sqlite3.connect(left.shop.folder / "order" / "events.sqlite")) as store, store:
        (name,) = store.execute(
            "SELECT originator_id FROM stored_events WHERE topic = 'order.confirmed' LIMIT 1"
        ).fetchone()
    order_id = name.removeprefix("order-")
    body = {"type": "order.canceled", "at": "2026-01-01T00:00:00Z", "order_id": order_id, "reason": "customer-canceled"}
    with closing(sqlite3.connect(left.shop.folder / "order" / "events.sqlite")) as store, store:
        last = store.execute("SELECT max(rowid) FROM stored_events").fetchone()[0]
        versions = store.execute("SELECT max(originator_version) FROM stored_events WHERE originator_id=?", (name,))
        version = versions.fetchone()[0] + 1
    headers = {MSG_ID: f"{name}@{version}", STREAM: name, VERSION: str(version), POSITION: str(last + 1)}
    await left.js.publish(f"l1.order.canceled.{order_id}", json.dumps(body).encode(), headers=headers)
    return f"canceled and not compensated: {order_id}"


async def not_sealed(left: Left) -> str:
    await left.js.publish("l1.mark.it", b"{}")
    await left.archive()
    await roll(left.js._nc, left.js, Settings(port=1), "a test")  # type: ignore[arg-type]
    return "EVENTS_1 is not sealed yet"


@pytest.mark.parametrize(
    "because",
    [
        a_lagging_consumer,
        a_missing_consumer,
        a_view_that_is_missing,
        a_consumer_of_another,
        one_of_very_many_consumers,
        a_dead_letter,
        an_open_order,
    ],
)
async def test_a_generation_that_is_not_over_stays_and_says_why(left: Left, because: Callable[[Left], Any]) -> None:
    said = await because(left)

    done = await left.archive()

    assert any(said in reason for reason in done.kept["EVENTS"]), done.kept
    assert (await left.streams(), left.manifests, done.deleted) == (["EVENTS", "EVENTS_1"], 0, [])
    command = await orders(left.shop, "archive", "--dry-run")
    assert command.returncode == 1
    assert "EVENTS stays: " in command.stdout


async def test_one_that_is_not_sealed_waits_for_the_keeper(left: Left) -> None:
    said = await not_sealed(left)

    assert said in (await left.archive()).kept["EVENTS_1"][0]


async def test_all_listeners_are_known(left: Left) -> None:
    assert {one.name for one in listeners(left.shop.env)} == {*left.shop.services, "product-popular"}


async def test_later_generations_are_not_read_whole_for_the_orders_that_ended_after_a_roll_over(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmed = await left.js.get_last_msg("EVENTS", "order.confirmed.*")
    _, _, order_id = str(confirmed.subject).rpartition(".")
    await left.js.publish(f"l1.order.created.pending.{order_id}", b"{}")
    await roll(left.js._nc, left.js, Settings(port=1), "a test")  # type: ignore[arg-type]
    body, headers = confirmed.data or b"", {k: v for k, v in (confirmed.headers or {}).items() if k != "Nats-Stream"}
    await left.js.publish(f"l2.order.confirmed.{order_id}", body, headers=headers)
    reads: list[object] = []
    chunks = reading.chunks

    def noted(stream: reading.Stream, subjects: Any = (), **bounds: Any) -> Any:
        reads.append((subjects, bounds["first"]))
        return chunks(stream, subjects, **bounds)

    monkeypatch.setattr(reading, "chunks", noted)
    async with reading.stream(left.shop.env) as stream, stores.log(left.shop.env, "order") as log:
        info = await left.js.stream_info("EVENTS_1")
        assert await open_orders(stream, info, log, ProgressLines()) == []

    assert reads == [((), info.state.first_seq), (("order.canceled.*",), 2_000_000_001)]


@pytest.mark.parametrize("few", [2_000, 0], ids=["looked up", "read whole"])
async def test_what_an_earlier_generation_has_of_an_order_counts_while_it_is_not_archived(
    left: Left, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """In a dry run, which archives none, the second generation is judged as in the run that archives the first."""
    confirmed = await left.js.get_last_msg("EVENTS", "order.confirmed.*")
    _, _, order_id = str(confirmed.subject).rpartition(".")
    await left.js.publish(f"l1.order.created.pending.{order_id}", b"{}")
    monkeypatch.setattr("ops.archive.open_orders.FEW", few)

    async with reading.stream(left.shop.env) as stream, stores.log(left.shop.env, "order") as log:
        assert await open_orders(stream, await left.js.stream_info("EVENTS_1"), log, ProgressLines()) == []


# The proof ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Any], Any]]:
    """Changes, applied to the messages on their way into the files."""
    changes: list[Callable[[Any], Any]] = []
    add = FileWriter.add

    def changed(self: FileWriter, messages: Any) -> None:
        found = list(messages)
        for change in changes:
            found = change(found)
        add(self, found)

    monkeypatch.setattr(FileWriter, "add", changed)
    return changes


@pytest.mark.parametrize(
    "change",
    [
        lambda found: [one for one in found if one.sequence != 11],
        lambda found: [one for one in found if one.sequence < 1_000],
        lambda found: [one._replace(body=one.body + b" ") if one.sequence == 11 else one for one in found],
        lambda found: [one._replace(head=b"") if one.sequence == 11 else one for one in found],
        lambda found: [one._replace(stored_ns=1) if one.sequence == 11 else one for one in found],
        lambda found: [two for one in found for two in (one, one)],
    ],
    ids=["lacks one", "ends early", "other body", "other headers", "other time", "has each twice"],
)
async def test_files_that_are_not_the_stream_are_no_archive(
    left: Left, written: list[Callable[[Any], Any]], change: Callable[[Any], Any]
) -> None:
    written.append(change)

    with pytest.raises(Found, match="the stream EVENTS stays: its files"):
        await left.archive()

    assert (await left.streams(), left.manifests) == (["EVENTS", "EVENTS_1"], 0)
    written.clear()
    assert (await left.archive()).deleted == ["EVENTS"]


async def test_a_log_that_is_not_the_stream_is_no_archive(left: Left) -> None:
    with closing(sqlite3.connect(left.shop.folder / "point" / "events.sqlite")) as store, store:
        store.execute("UPDATE stored_events SET state = replace(state, '\"amount\"', '\"amounx\"') WHERE rowid = 3")

    with pytest.raises(Found, match="is not what point_svc's log has at position 3: just audit says which one"):
        await left.archive()

    assert (await left.streams(), left.manifests) == (["EVENTS", "EVENTS_1"], 0)


async def test_a_fact_that_its_log_lacks_is_no_archive(left: Left) -> None:
    with closing(sqlite3.connect(left.shop.folder / "coupon" / "events.sqlite")) as store, store:
        store.execute("DELETE FROM stored_events WHERE rowid = (SELECT max(rowid) FROM stored_events)")

    with pytest.raises(Found, match="is not what coupon_svc's log has"):
        await left.archive()

    assert await left.streams() == ["EVENTS", "EVENTS_1"]


@pytest.mark.parametrize(
    "positions",
    [[1, 2, 3, 4, 5, 6], [3, 4, 1, 2, 6, 5], [1, 2, 2, 3, 1, 4, 5, 6, 3], [6, 5, 4, 3, 2, 1], [1, 5, 2, 6, 3, 4]],
)
def test_positions_are_counted_in_any_order_and_with_repeats(positions: list[int]) -> None:
    tally = tallied([*positions, 9])

    assert tally.logs["point"] == LogRange([(1, 6), (9, 9)], len(positions) + 1, "account-ann@9")


def test_what_a_run_remembers_of_a_generation_does_not_grow_with_its_messages() -> None:
    def remembered(messages: int) -> int:
        tracemalloc.start()
        try:
            kept = tallied(range(1, messages + 1))
            assert kept.messages == messages
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert remembered(20_000) < remembered(1_000) + 20_000


def tallied(positions: Iterable[int]) -> proof.MessageTally:
    tally = proof.MessageTally(KnownForeign([]))
    for sequence, position in enumerate(positions, 1):
        its_id = f"account-ann@{position}"
        headers = {MSG_ID: its_id, STREAM: "account-ann", VERSION: str(position), POSITION: str(position)}
        head = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        body = b'{"type":"point.charged","at":"2026-01-01T00:00:00Z","user_id":"ann","amount":1,"idempotency_key":"k"}'
        tally.take([reading.Read(sequence, "point.charged.ann", its_id, body, head.encode(), sequence)])
    return tally


# Crashes --------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is killed here."""


def killed(*_: object, **__: object) -> Any:
    raise Killed


@on_both
async def test_a_run_goes_on_after_a_kill_at_any_step(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    of_place = [(files, "publish")] if left.store is None else [(Bucket, "add"), (Bucket, "publish")]
    for place, name in ((FileWriter, "add"), (FileWriter, "finish"), (archiving, "prove"), *of_place):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, killed)
            with pytest.raises(Killed):
                await left.archive()
        assert (await left.streams(), left.manifests) == (["EVENTS", "EVENTS_1"], 0), name
    with monkeypatch.context() as patched:
        patched.setattr(JetStreamContext, "delete_stream", killed)
        with pytest.raises(Killed):
            await left.archive()
    assert (await left.streams(), left.manifests) == (["EVENTS", "EVENTS_1"], 1)

    done = await left.archive()

    assert (done.archived, done.deleted) == ([], ["EVENTS"])
    assert (await left.streams(), left.manifests) == (["EVENTS_1"], 1)


@on_both
async def test_what_an_earlier_run_proved_is_proven_again_before_its_stream_goes(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(JetStreamContext, "delete_stream", killed)
        with pytest.raises(Killed):
            await left.archive()
    part = left.a_part
    good = part.read_bytes()
    part.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

    with pytest.raises(Found, match=r"EVENTS/.*part-000\.jsonl\.gz is not what was written"):
        await left.archive()

    assert await left.streams() == ["EVENTS", "EVENTS_1"]
    part.write_bytes(good)
    assert (await left.archive()).deleted == ["EVENTS"]


async def test_an_archived_stream_that_was_restored_from_a_backup_is_the_same_and_goes(
    left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker says of it that it was made now."""
    with monkeypatch.context() as patched:
        patched.setattr(JetStreamContext, "delete_stream", killed)
        with pytest.raises(Killed):
            await left.archive()
    async with reading.stream(left.shop.env) as stream:
        await stream_snapshots.take(stream, "EVENTS", tmp_path / "snapshot")
        await left.js.delete_stream("EVENTS")
        await stream_snapshots.restore(stream, "EVENTS", tmp_path / "snapshot")
        assert [info.config.name for info in await reading.kept_generations(stream)] == ["EVENTS_1"]

    assert (await left.archive()).deleted == ["EVENTS"]


@pytest.mark.parametrize("body", [None, b"{}"], ids=["lacks messages", "has another one"])
async def test_a_stream_that_came_back_in_part_after_its_deletion_goes_if_it_has_nothing_else(
    left: Left, monkeypatch: pytest.MonkeyPatch, body: bytes | None
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(JetStreamContext, "delete_stream", killed)
        with pytest.raises(Killed):
            await left.archive()
    whole = reading.of_generation

    async def of_generation(stream: reading.Stream, name: str) -> AsyncGenerator[list[reading.Read]]:
        async for chunk in whole(stream, name):
            kept = [one for one in chunk if one.sequence < 5_000]
            yield [one if body is None or one.sequence != 11 else one._replace(body=body) for one in kept]

    monkeypatch.setattr(reading, "of_generation", of_generation)
    if body is None:
        assert (await left.archive()).deleted == ["EVENTS"]
    else:
        with pytest.raises(Found, match="its files are not what the stream has at sequence 11"):
            await left.archive()
        assert await left.streams() == ["EVENTS", "EVENTS_1"]


async def test_a_stream_stays_while_the_archive_lacks_a_fact_from_before_its_last(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Because it was lost there, and published again into a later generation, which is not archived yet."""
    tally = proof.MessageTally

    class Lacking(tally):  # type: ignore[misc, valid-type]
        @property
        def logs(self) -> dict[str, LogRange]:
            return {**super().logs, "point": LogRange([(1, 4), (6, 9)], 8, "account-x@1")}

    monkeypatch.setattr(archiving, "MessageTally", Lacking)
    monkeypatch.setattr(proof, "MessageTally", Lacking)

    done = await left.archive()

    assert (await left.streams(), left.manifests, done.deleted) == (["EVENTS", "EVENTS_1"], 1, [])
    assert "the archive lacks position 5 of point_svc's log" in done.kept["EVENTS"][0]
    assert Archive(left.folder).log_of("point") == ArchivedLog(4, 9, "account-x@1")


async def test_only_one_run_is_at_work(left: Left) -> None:
    files.make_folder(left.folder)
    with files.exclusive_lock(left.folder / ".lock"), pytest.raises(SettingsError, match="archives into"):
        await left.archive()


# A bucket -------------------------------------------------------------------------------------------------------------


in_a_bucket = pytest.mark.parametrize("left", ["bucket"], indirect=True)


@in_a_bucket
async def test_nothing_is_deleted_while_the_bucket_is_away_and_the_next_run_goes_on(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start; in the middle of the files; before the proof; before the manifest; before the second proof."""
    assert left.store is not None
    stop = left.store.stop
    stop()
    with pytest.raises(Unreachable, match=r"the archive's bucket s3://.* cannot be used: it takes no connection"):
        await left.archive()

    def stopping(do: Callable[..., Any], *, at: int) -> Callable[..., Any]:
        calls = iter(range(1_000))

        def stopped(*args: Any) -> Any:
            if next(calls) == at:
                stop()
            return do(*args)

        return stopped

    for name, at in (("_put", 1), ("described", 0), ("read_range", 3), ("publish", 0)):
        left.store.start()
        with monkeypatch.context() as patched:
            patched.setattr(Bucket, name, stopping(getattr(Bucket, name), at=at))
            with pytest.raises(Unreachable, match="cannot be used: it takes no connection"):
                await left.archive()
        assert await left.streams() == ["EVENTS", "EVENTS_1"], name
        assert not [one for one in left.store.files() if one.endswith(".json")], name

    left.store.start()
    with monkeypatch.context() as patched:
        patched.setattr(JetStreamContext, "delete_stream", killed)
        with pytest.raises(Killed):
            await left.archive()
    stop()
    with pytest.raises(Unreachable):
        await left.archive()
    assert await left.streams() == ["EVENTS", "EVENTS_1"]
    left.store.start()
    assert (await left.archive()).deleted == ["EVENTS"]


@in_a_bucket
async def test_of_two_archivers_at_once_one_has_the_manifest_and_the_other_deletes_nothing(
    left: Left, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on two machines: each has a cache, and so a lock, of its own."""
    publish = Bucket.publish
    others: list[Any] = []

    def second(self: Bucket, name: str, content: bytes) -> None:
        if not others:
            others.append(name)
            env = {**left.shop.env, "ARCHIVE_CACHE_DIR": str(tmp_path / "other")}
            others.append(asyncio.run(archive(env, ProgressLines())).deleted)
        publish(self, name, content)

    monkeypatch.setattr(Bucket, "publish", second)

    with pytest.raises(Found, match=r"EVENTS stays: .*/EVENTS\.json is there already: another run has archived it"):
        await left.archive()

    assert others == ["EVENTS.json", ["EVENTS"]]
    assert (await left.streams(), left.manifests) == (["EVENTS_1"], 1)
    assert await left.archive() == Archived(left.found.place.title, [], [], {})
    assert [one.sequence for chunk in left.found.read(left.found.manifests[0], first=1, last=3) for one in chunk] == [
        1,
        2,
        3,
    ]


@in_a_bucket
async def test_credentials_that_are_refused_are_told_and_not_shown(left: Left) -> None:
    done = await orders(left.shop, "archive", AWS_SECRET_ACCESS_KEY="another-secret")

    assert done.returncode == 3
    assert "403 SignatureDoesNotMatch. Check its credentials (AWS_ACCESS_KEY_ID)" in " ".join(done.stderr.split())
    for secret in (SECRET, KEY_ID, "another-secret"):
        assert secret not in done.stdout + done.stderr
    assert await left.streams() == ["EVENTS", "EVENTS_1"]


async def test_the_archive_moves_into_a_bucket_and_back(
    left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left.archive()
    before = {path.name: path.read_bytes() for path in left.folder.rglob("EVENTS*/*")}
    history = await orders(left.shop, "replay")
    with object_store(tmp_path / "store") as store:
        url = store.env["ARCHIVE_URL"]
        own = {name: value for name, value in store.env.items() if name != "ARCHIVE_URL"}

        done = await orders(left.shop, "archive", "--copy-to", url, **own)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"set ARCHIVE_URL={url} for all services" in " ".join(done.stdout.split())
        assert (await orders(left.shop, "archive", "--copy-to", url, "--json", **own)).stdout.strip() == "[]"

        assert (await orders(left.shop, "replay", **store.env)).stdout == history.stdout != ""

        back = await orders(left.shop, "archive", "--copy-to", str(tmp_path / "back"), **store.env)
        assert back.returncode == 0, back.stdout + back.stderr
        assert {path.name: path.read_bytes() for path in (tmp_path / "back").rglob("EVENTS*/*")} == before

        (part,) = store.objects.glob("EVENTS/*/part-000.jsonl.gz")
        part.write_bytes(part.read_bytes()[:-1] + b"x")
        refused = await orders(left.shop, "archive", "--copy-to", str(tmp_path / "other"), **store.env)
        assert (refused.returncode, list((tmp_path / "other").glob("*.json"))) == (1, [])
        assert "is not what its manifest says: EVENTS was not copied" in " ".join(refused.stderr.split())


def a_flipped_bit(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)


def a_shorter_file(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-9])


def a_missing_file(part: Path) -> None:
    part.unlink()


def other_bytes_of_the_same_messages(part: Path) -> None:
    """As another version of gzip would write them: nothing that reads them notices it."""
    content = part.read_bytes()
    part.write_bytes(content[:4] + b"\x01" + content[5:])


@on_both
async def test_a_full_audit_names_a_damaged_file_of_the_archive(left: Left) -> None:
    await left.archive()
    folder = left.folder if left.store is None else left.store.objects
    for name in ("part-000.jsonl.gz", "index.sqlite"):
        (file,) = folder.glob(f"EVENTS/**/{name}")
        content = file.read_bytes()
        for damaging in (a_flipped_bit, a_shorter_file, a_missing_file, other_bytes_of_the_same_messages):
            damaging(file)

            done = await orders(left.shop, "audit", "--full", "--at-rest", "--answers", "0")

            told = " ".join(done.stderr.split())
            assert (done.returncode, done.stdout) == (1, ""), damaging
            assert re.match(rf"the archive is damaged: \S*/EVENTS/\S*{re.escape(name)} (is|cannot be) ", told), told
            assert "; " not in told.partition(". Put a copy of the archive back")[0], told
            file.write_bytes(content)

    done = await orders(left.shop, "audit", "--full", "--at-rest", "--answers", "0", "--foreign", "all", "--json")
    assert (done.returncode, json.loads(done.stdout)["findings"]) == (0, [])
