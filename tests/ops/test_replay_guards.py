"""What a replay must not do: be heard unasked, leave something behind when it fails, end because somebody was slow."""

import asyncio
import json
import re
import signal
from contextlib import aclosing
from pathlib import Path

import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from infra.local.services import service_names
from ops import reading
from ops.errors import Unreachable
from ops.replay.publishing import Publisher
from tests.ops.asking import orders, told
from tests.ops.damage import rows
from tests.ops.test_rebuild import balances
from tests.ops.test_replay import ended, ends, heard, lines, messages, other, ranking, replaying, summary, url
from tests.shop import PATIENCE_S, Shop

__all__ = ["other"]


async def streams(shop: Shop) -> list[str]:
    async with shop.broker() as nc:
        return [str(info.config.name) for info in await nc.jetstream().streams_info()]


async def set_duplicate_window(shop: Shop, seconds: float) -> None:
    async with shop.broker() as nc:
        js = nc.jetstream()
        config = (await js.stream_info("EVENTS")).config
        config.duplicate_window = seconds
        await js.update_stream(config)


# Muted ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["", "order", "point.again", "dead", "l3.x", "a b", "*", "replay.>", "replay.", "$JS.API", "_INBOX.x"]
)
async def test_a_prefix_that_would_not_mute_is_refused(prefix: str, left: Shop) -> None:
    await left.start_nats()
    await set_duplicate_window(left, 0.1)  # or the ids of what got through could still be known
    before = await messages(left, "EVENTS")

    done = await orders(left, "replay", "--stream", "SCRATCH", "--prefix", prefix)

    assert done.returncode == 2, done.stderr
    assert "--prefix" in done.stderr
    assert (await messages(left, "EVENTS"), await streams(left)) == (before, ["DEAD", "EVENTS"])


async def test_a_prefix_may_be_chosen(left: Shop, other: Shop) -> None:
    await left.start_nats()

    told = await summary(left, "--to", url(other), "--prefix", "again.twice", "--last", "5")

    assert (told["messages"], told["stream"], told["muted"]) == (5, "REPLAY", True)
    async with other.broker() as nc:
        info = await nc.jetstream().stream_info("REPLAY", subjects_filter=">")
    assert info.config.subjects == ["again.twice.>"]
    assert (info.config.max_bytes or 0) > 0, "it cannot fill the disk below EVENTS"
    assert all(subject.startswith("again.twice.") for subject in info.state.subjects or {})
    assert await streams(other) == ["REPLAY"]


# Selected -------------------------------------------------------------------------------------------------------------


async def test_filters_may_overlap(left: Shop) -> None:
    await left.start_nats()

    found = await lines(left, "--subject", "point.>", "--subject", "*.charged.*", "--subject", "point.>")

    assert found == await lines(left, "--subject", "point.>") != []


async def test_a_message_is_found_by_the_time_in_its_body(left: Shop) -> None:
    await left.start_nats()
    (middle,) = await lines(left, "--first", "1000", "--last", "1000")
    at = middle["body"]["at"]
    assert middle in await lines(left, "--since", at, "--until", at)


async def test_a_reader_may_be_slower_than_the_broker_keeps_its_consumer(left: Shop) -> None:
    """At original speed hours may pass between two messages."""
    await left.start_nats()
    whole = [event.sequence for event in await left.events()]
    found: list[int] = []

    async with reading.stream(left.env) as stream:
        known = {consumer.name for consumer in await stream.js.consumers_info(stream.name)}
        async with aclosing(reading.chunks(stream)) as chunks:
            async for chunk in chunks:
                found += [message.sequence for message in chunk]
                for consumer in await stream.js.consumers_info(stream.name):
                    if consumer.name not in known:
                        await stream.js.delete_consumer(stream.name, consumer.name)
        assert {consumer.name for consumer in await stream.js.consumers_info(stream.name)} == known

    assert found == whole


# Failed ---------------------------------------------------------------------------------------------------------------


async def test_without_anything_to_replay_no_target_is_made(left: Shop, other: Shop) -> None:
    away = [await orders(left, "replay", "--to", url(other), *aloud) for aloud in ([], ["--aloud"])]
    await left.start_nats()
    nothing = await orders(left, "replay", "--to", url(other), "--subject", "basket.>")

    assert [done.returncode for done in (*away, nothing)] == [3, 3, 1]
    assert await streams(other) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--first", "100", "--last", "50"],
        ["--since", "2026-02-01T00:00:00Z", "--until", "2026-01-01T00:00:00Z"],
        ["--prefix", "replay"],
        ["--prefix", "replay", "--aloud", "--to", "nats://127.0.0.1:1"],
        ["--stream", "no name"],
        ["--stream", "a.b"],
    ],
)
async def test_contradictions_are_wrong_usage(arguments: list[str], left: Shop) -> None:
    done = await orders(left, "replay", *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


async def test_aloud_into_a_stream_that_is_not_made_for_facts_is_refused(left: Shop, other: Shop) -> None:
    await left.start_nats()
    async with other.broker() as nc:
        await nc.jetstream().add_stream(StreamConfig(name="EVENTS", subjects=["point.>"], max_msgs=3))

    done = await orders(left, "replay", "--aloud", "--to", url(other))

    assert done.returncode == 3
    assert "max_msgs is 3" in done.stderr
    assert "Traceback" not in done.stderr
    assert await messages(other, "EVENTS") == 0


async def test_after_a_refusal_it_goes_on_where_it_says(left: Shop, other: Shop) -> None:
    await left.start_nats()
    whole = await messages(left, "EVENTS")
    config = StreamConfig(name="FULL", subjects=["replay.>"], max_msgs=1_234, discard=DiscardPolicy.NEW)
    async with other.broker() as nc:
        await nc.jetstream().add_stream(config)
    into = ["--to", url(other), "--stream", "FULL"]

    refused = await orders(left, "replay", *into)

    assert refused.returncode == 3
    assert "the target refused a message: maximum messages exceeded" in refused.stderr
    assert "1,234 messages are acknowledged" in refused.stderr
    (first,) = re.findall(r"--first (\d+) goes on", refused.stderr)
    config.max_msgs = -1
    async with other.broker() as nc:
        await nc.jetstream().update_stream(config)
    told = await summary(left, *into, "--first", first)
    assert (told["messages"], told["duplicates"]) == (whole - 1_234, 0)
    assert await messages(other, "FULL") == whole


async def test_a_lost_target_is_noticed_between_two_messages(other: Shop) -> None:
    async with other.broker() as nc:
        publisher = Publisher(nc, "REPLAY", ping_interval_s=0.01)
        await publisher.begin()
        await other.kill("nats")
        with pytest.raises(Unreachable, match="lost"):
            async with asyncio.timeout(PATIENCE_S):
                await publisher.rest(86_400.0)


async def test_stopped_at_lines_it_says_how_far_it_got(left: Shop, tmp_path: Path) -> None:
    await left.start_nats()
    good = (await orders(left, "replay", "--last", "3")).stdout.splitlines()
    late = json.loads(good[2])
    late["body"]["at"] = "2099-01-01T00:00:00Z"
    (tmp_path / "slow.jsonl").write_text("\n".join([*good[:2], json.dumps(late)]))
    process = await replaying(left, "--speed", "original", "--from", str(tmp_path / "slow.jsonl"))
    assert process.stdout is not None
    assert [await process.stdout.readline() for _ in range(2)] == [f"{line}\n".encode() for line in good[:2]]

    process.send_signal(signal.SIGINT)

    assert await ended(process) == (130, "stopped: 2 messages were replayed, up to sequence 2: --first 3 goes on\n")


async def test_stopped_at_lines_out_of_order_it_names_no_sequence_that_would_leave_some_out(
    left: Shop, tmp_path: Path
) -> None:
    """As of two outputs in one file: after the first line, `--first 4` would leave out the second and the third."""
    await left.start_nats()
    good = (await orders(left, "replay", "--last", "3")).stdout.splitlines()
    late = json.loads(good[0])
    late["body"]["at"] = "2099-01-01T00:00:00Z"
    (tmp_path / "two.jsonl").write_text("\n".join([good[2], json.dumps(late), good[1]]))
    process = await replaying(left, "--speed", "original", "--from", str(tmp_path / "two.jsonl"))
    assert process.stdout is not None
    assert await process.stdout.readline() == f"{good[2]}\n".encode()

    process.send_signal(signal.SIGINT)

    code, said = await ended(process)
    assert (code, " ".join(said.split())) == (
        130,
        "stopped: 1 messages are replayed; the sequences of the lines do not rise, so no --first goes on: order the "
        "lines by their sequences, or begin again",
    )


# Aloud ----------------------------------------------------------------------------------------------------------------


async def test_aloud_while_the_broker_knows_the_ids_nothing_is_said_twice(left: Shop) -> None:
    await left.start_nats()
    await set_duplicate_window(left, 86_400.0)
    await left.stop("nats")
    await left.start_nats()  # the ids of the whole window are read again from the stream
    await left.start()
    await left.until_quiet()
    given, events = await heard(left), await messages(left, "EVENTS")

    done = await orders(left, "replay", "--aloud", "--to", url(left))

    assert done.returncode == 0
    assert "aloud: every consumer of stream EVENTS" in done.stderr
    assert f"replayed {events:,} messages aloud" in done.stderr
    assert f"{events:,} of which it had already" in done.stderr
    assert (await heard(left), await messages(left, "EVENTS")) == (given, events)


@pytest.mark.parametrize("ids", [[], ["--fresh-ids"]], ids=["same ids", "fresh ids"])
async def test_after_a_part_was_replayed_aloud_services_start_and_answer_the_same(ids: list[str], left: Shop) -> None:
    """The last message of every service is then one from the middle of its log, or one that no log has."""
    await left.start_nats()
    await set_duplicate_window(left, 0.1)
    await left.start()
    await left.until_quiet()
    await heard(left)
    before = await balances(left), await ends(left), await ranking(left)
    middle = await messages(left, "EVENTS") // 2

    told = await summary(left, "--aloud", "--to", url(left), "--last", str(middle), *ids)
    assert told["duplicates"] < told["messages"] == middle
    await left.until_quiet()
    for name in service_names():
        assert await left.stop(name) == 0
    await left.start()
    await left.until_quiet()
    await heard(left)

    assert (await balances(left), await ends(left), await ranking(left)) == before
    assert (await left.place([("product1", 1)], user="customer1", key="after")).status_code == 200
    await left.until_quiet()


async def test_what_fresh_ids_cost_is_said_and_true(left: Shop) -> None:
    await left.start_nats()

    done = await orders(left, "replay", "--aloud", "--to", url(left), "--fresh-ids", "--subject", "point.>")

    assert done.returncode == 0
    assert "`just audit` will report them" in done.stderr
    rebuilt = await told(left, "rebuild", "point")
    assert rebuilt["foreign"] == len(rows(left, "point"))
    found = json.loads((await orders(left, "audit", "--at-rest", "--answers", "0", "--json")).stdout)
    assert set(found["findings_by_rule"]) == {"11"}
    await told(left, "audit", "--at-rest", "--answers", "0", "--foreign", "all")
    await told(left, "audit", "--at-rest", "--answers", "0")
