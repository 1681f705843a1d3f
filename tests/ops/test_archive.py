"""`orders archive` on a broker and stores without services: what has to stay, the proof, and a crash at any step."""

import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nats.js import JetStreamContext

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION
from infra import files
from infra.archive.folder import Archive
from infra.archive.manifest import ArchivedLog, LogRange
from infra.archive.writing import FileWriter
from infra.broker.consumers import consumer_config
from infra.broker.generations import find_generations
from infra.broker.rolling import Sealing, roll
from infra.settings import Settings, SettingsError
from ops import reading
from ops.archive import archiving, proof
from ops.archive.archiving import Archived, archive
from ops.archive.readiness import listeners
from ops.errors import Found
from ops.progress import ProgressLines
from tests.ops.asking import orders
from tests.shop import Shop, generations


class Left(NamedTuple):
    """What services left: a broker with EVENTS sealed and EVENTS_1 with some facts, and their stores."""

    shop: Shop
    js: JetStreamContext

    async def archive(self) -> Archived:
        return await archive(self.shop.env, ProgressLines())

    async def streams(self) -> list[str]:
        return await generations(self.js)

    @property
    def folder(self) -> Path:
        return self.shop.folder / "archive"

    @property
    def manifests(self) -> int:
        return len(Archive(self.folder).manifests)


@pytest.fixture
async def left(left: Shop) -> AsyncIterator[Left]:
    """The day of many orders, rolled over and sealed; the services have heard all and are stopped."""
    await left.start_nats()
    async with left.broker() as nc:
        js = nc.jetstream()
        await roll(nc, js, Settings(port=1), "a test")
        await js.publish("l1.mark.it", b"{}")
        await Sealing(0.0).look(js, await find_generations(nc, js), 0.0)
        yield Left(left, js)


async def test_a_generation_becomes_files_and_leaves_the_broker(left: Left) -> None:
    messages = (await left.js.stream_info("EVENTS")).state.messages

    done = await left.archive()

    (one,) = done.archived
    assert (one.stream, one.messages, done.deleted, done.kept) == ("EVENTS", messages, ["EVENTS"], {})
    assert 0 < one.archive_bytes < one.stream_bytes / 3
    assert await left.streams() == ["EVENTS_1"]
    (manifest,) = Archive(left.folder).manifests
    for service in left.shop.services:
        assert Archive(left.folder).log_of(service).until == facts(left.shop, service)
    assert sum(one.messages for one in manifest.names.values()) == manifest.messages
    assert await left.archive() == Archived(str(left.folder), [], [], {})  # nothing more to do


def facts(shop: Shop, service: str) -> int:
    with sqlite3.connect(shop.folder / service / "events.sqlite") as store:
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


async def a_dead_letter(left: Left) -> str:
    headers = {"Dead-Sequence": "7", "Dead-Error": "no"}
    ack = await left.js.publish("dead.point.o1", b"{}", headers=headers)
    return f"dead letters are of messages in EVENTS: {ack.seq}. Redrive or drop them (just dlq redrive {ack.seq})"


async def an_open_order(left: Left) -> str:
    with sqlite3.connect(left.shop.folder / "order" / "events.sqlite") as store:
        (name,) = store.execute(
            "SELECT originator_id FROM stored_events WHERE topic = 'order.confirmed' LIMIT 1"
        ).fetchone()
    order_id = name.removeprefix("order-")
    body = {"type": "order.canceled", "at": "2026-01-01T00:00:00Z", "order_id": order_id, "reason": "customer-canceled"}
    with sqlite3.connect(left.shop.folder / "order" / "events.sqlite") as store:
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

    with pytest.raises(Found, match="EVENTS is not archived, and its stream stays"):
        await left.archive()

    assert (await left.streams(), left.manifests) == (["EVENTS", "EVENTS_1"], 0)
    written.clear()
    assert (await left.archive()).deleted == ["EVENTS"]


async def test_a_log_that_is_not_the_stream_is_no_archive(left: Left) -> None:
    with sqlite3.connect(left.shop.folder / "point" / "events.sqlite") as store:
        store.execute("UPDATE stored_events SET state = replace(state, '\"amount\"', '\"amounx\"') WHERE rowid = 3")

    with pytest.raises(Found, match="is not what point_svc's log has at position 3: just audit says which one"):
        await left.archive()

    assert (await left.streams(), left.manifests) == (["EVENTS", "EVENTS_1"], 0)


async def test_a_fact_that_its_log_lacks_is_no_archive(left: Left) -> None:
    with sqlite3.connect(left.shop.folder / "coupon" / "events.sqlite") as store:
        store.execute("DELETE FROM stored_events WHERE rowid = (SELECT max(rowid) FROM stored_events)")

    with pytest.raises(Found, match="is not what coupon_svc's log has"):
        await left.archive()

    assert await left.streams() == ["EVENTS", "EVENTS_1"]


# Crashes --------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is killed here."""


def killed(*_: object, **__: object) -> Any:
    raise Killed


async def test_a_run_goes_on_after_a_kill_at_any_step(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name in ((FileWriter, "add"), (FileWriter, "finish"), (archiving, "prove"), (files, "publish")):
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


async def test_what_an_earlier_run_proved_is_proven_again_before_its_stream_goes(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(JetStreamContext, "delete_stream", killed)
        with pytest.raises(Killed):
            await left.archive()
    part = left.folder / "EVENTS" / "part-000.jsonl.gz"
    good = part.read_bytes()
    part.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

    with pytest.raises(Found, match=r"part-000\.jsonl\.gz is not what was written"):
        await left.archive()

    assert await left.streams() == ["EVENTS", "EVENTS_1"]
    part.write_bytes(good)
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
