"""What a day left in the stream, replayed: to lines, to another broker, and into the ears of services that know it."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from infra.broker.streams import ensure_stream
from infra.local.services import ROOT, service_names
from infra.settings import Settings
from ops.replay.lines import nanoseconds, since_1970_ns
from tests.ops.asking import orders
from tests.ops.test_rebuild import balances
from tests.shop import PATIENCE_S, Event, Shop, attempts, consumers_of


@pytest_asyncio.fixture
async def other(tmp_path: Path) -> AsyncIterator[Shop]:
    """A broker without history, and nobody at it."""
    (tmp_path / "other").mkdir()
    shop = Shop(tmp_path / "other")
    await shop.start_nats()
    try:
        yield shop
    finally:
        await shop.close()


def url(shop: Shop) -> str:
    return f"nats://127.0.0.1:{shop.env['NATS_PORT']}"


async def lines(shop: Shop, *arguments: str) -> list[dict[str, Any]]:
    done = await orders(shop, "replay", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def summary(shop: Shop, *arguments: str) -> Any:
    done = await orders(shop, "replay", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def messages(shop: Shop, stream: str) -> int:
    async with shop.broker() as nc:
        return int((await nc.jetstream().stream_info(stream)).state.messages)


async def ranking(shop: Shop) -> Any:
    """What sold most."""
    return (await shop.get("product", "/products/popular?days=3")).json()


async def ends(shop: Shop) -> list[Any]:
    """How everybody's orders stand."""
    found: list[Any] = []
    after = ""
    while True:
        page = (await shop.get("order", f"/ops/orders?limit=100{after}")).json()
        found += page["orders"]
        if page["next"] is None:
            return found
        after = f"&cursor={page['next']}"


# Lines ----------------------------------------------------------------------------------------------------------------


async def test_a_line_has_all_of_a_message(left: Shop) -> None:
    await left.start_nats()
    events = await left.events()

    done = await orders(left, "replay")

    told = done.stdout.splitlines()
    assert len(told) == len(events)
    for line, event in zip(told, events, strict=True):
        assert line.endswith(f'"body":{event.raw.decode()}}}')
        message = json.loads(line)
        assert (message["sequence"], message["subject"]) == (event.sequence, event.subject)
        assert message["headers"] == {
            "Nats-Msg-Id": event.fact_id,
            "Fact-Stream": event.fact_id.partition("@")[0],
            "Fact-Version": event.fact_id.partition("@")[2],
            "Fact-Position": str(event.position),
        }


def said(told: dict[str, Any]) -> datetime:
    """A line's fact's own time."""
    return datetime.fromisoformat(told["body"]["at"])


async def test_what_is_selected(left: Shop) -> None:
    await left.start_nats()
    everything = await lines(left)
    middle = everything[len(everything) // 2]
    at = said(middle)

    def those(which: Any) -> list[int]:
        return [told["sequence"] for told in everything if which(told)]

    async def selected(*arguments: str) -> list[int]:
        return [told["sequence"] for told in await lines(left, *arguments)]

    assert await selected("--first", "100", "--last", "120") == list(range(100, 121))
    assert await selected("--subject", "point.charged.*", "--subject", "*.*.*.rare") == those(
        lambda told: re.fullmatch(r"point\.charged\.[^.]+|[^.]+\.[^.]+\.[^.]+\.rare", told["subject"])
    )
    assert await selected("--since", at.isoformat()) == those(lambda told: said(told) >= at)
    assert await selected("--until", at.isoformat()) == those(lambda told: said(told) <= at)
    later = middle["sequence"] + 100  # as after a stop of a replay with --since
    assert await selected("--since", at.isoformat(), "--first", str(later)) == those(
        lambda told: said(told) >= at and told["sequence"] >= later
    )


async def test_a_fact_is_found_by_its_own_time_after_the_broker_stored_it_again(left: Shop) -> None:
    await left.start_nats()
    before = await lines(left)
    noon = said(before[len(before) // 2])
    await left.stop("nats")
    shutil.rmtree(left.folder / "nats")
    await left.start_nats()
    await left.start()
    await left.until_quiet()

    after = await lines(left, "--until", noon.isoformat())

    assert min(nanoseconds(told["stored"]) for told in after) > since_1970_ns(noon)
    assert facts(after) == facts(told for told in before if said(told) <= noon) != []
    assert facts(await lines(left, "--since", noon.isoformat())) == facts(told for told in before if said(told) >= noon)


def facts(lines: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(told["headers"]["Nats-Msg-Id"] for told in lines)


async def test_lines_are_selected_as_a_stream_is(left: Shop, tmp_path: Path) -> None:
    await left.start_nats()
    file = tmp_path / "history.jsonl"
    file.write_text((await orders(left, "replay")).stdout)
    middle = said(json.loads(file.read_text().splitlines()[7_000])).isoformat()

    for selection in (
        ["--subject", "point.>"],
        ["--subject", "*.*.*.rare", "--first", "500"],
        ["--last", "20"],
        ["--since", middle],
        ["--until", middle],
    ):
        from_stream = await orders(left, "replay", *selection)
        from_file = await orders(left, "replay", "--from", str(file), *selection)
        assert from_file.stdout == from_stream.stdout != ""


# Into another broker --------------------------------------------------------------------------------------------------


def contents(events: list[Event]) -> list[tuple[str, str, int, bytes]]:
    return [(event.subject, event.fact_id, event.position, event.raw) for event in events]


async def test_aloud_a_broker_without_history_gets_a_copy_that_can_be_audited(left: Shop, other: Shop) -> None:
    await left.start_nats()

    done = await orders(left, "replay", "--aloud", "--to", url(other))

    assert done.returncode == 0
    assert "aloud into stream EVENTS of nats://127.0.0.1:" in done.stderr
    assert contents(await other.events()) == contents(await left.events())
    audited = await orders(left, "audit", "--at-rest", "--answers", "0", NATS_URL=url(other))
    assert audited.returncode == 0, audited.stdout


async def test_aloud_it_goes_into_the_newest_generation_and_names_it(left: Shop, other: Shop) -> None:
    await left.start_nats()
    async with other.broker() as nc:
        for number in (0, 1):
            await ensure_stream(nc.jetstream(), Settings(port=1), number)

    told = await summary(left, "--aloud", "--to", url(other), "--last", "5")
    done = await orders(left, "replay", "--aloud", "--to", url(other), "--last", "5")

    assert (told["stream"], await messages(other, "EVENTS"), await messages(other, "EVENTS_1")) == ("EVENTS_1", 0, 5)
    assert f"aloud into stream EVENTS_1 of {url(other)}, 5 of which it had already" in " ".join(done.stderr.split())


async def test_lines_do_the_same(left: Shop, other: Shop, tmp_path: Path) -> None:
    await left.start_nats()
    (tmp_path / "history.jsonl").write_text((await orders(left, "replay")).stdout)

    await summary(left, "--from", str(tmp_path / "history.jsonl"), "--aloud", "--to", url(other))

    assert contents(await other.events()) == contents(await left.events())


async def test_muted_it_stands_under_other_subjects_in_a_stream_of_its_own(left: Shop, other: Shop) -> None:
    await left.start_nats()
    events = await left.events()

    first = await summary(left, "--to", url(other))
    again = await summary(left, "--to", url(other))

    assert (first["messages"], first["duplicates"], first["muted"]) == (len(events), 0, True)
    assert (again["messages"], again["duplicates"]) == (len(events), len(events))
    async with other.broker() as nc:
        js = nc.jetstream()
        assert (await js.stream_info("REPLAY")).config.subjects == ["replay.>"]
        last = await js.get_last_msg("REPLAY", "replay.order.>")
        wanted = [event for event in events if event.subject.startswith("order.")][-1]
        assert (last.subject, last.data) == (f"replay.{wanted.subject}", wanted.raw)
    assert await messages(other, "REPLAY") == len(events)


# To services that know it all -----------------------------------------------------------------------------------------


async def heard(shop: Shop) -> list[int]:
    """How many deliveries each service, and the ranking, was ever given by its consumers, once none is due."""
    names = [*service_names(), "product-popular"]
    async with shop.broker() as nc:
        js = nc.jetstream()
        async for _ in attempts("everybody to have heard everything"):
            found = [info for name in names for info in await consumers_of(js, name)]
            if not any(consumer.num_pending or consumer.num_ack_pending for consumer in found):
                return [consumer.delivered.consumer_seq if consumer.delivered else 0 for consumer in found]
    raise AssertionError


async def test_muted_beside_running_services_nobody_hears_it(running: Shop) -> None:
    given, events = await heard(running), await messages(running, "EVENTS")
    before = await balances(running), await ends(running), await ranking(running)

    told = await summary(running, "--stream", "SCRATCH")
    await running.until_quiet()

    assert told["messages"] == events
    assert told["messages"] - told["duplicates"] == await messages(running, "SCRATCH")  # what stands twice is told once
    assert (await heard(running), await messages(running, "EVENTS")) == (given, events)
    assert (await balances(running), await ends(running), await ranking(running)) == before


@pytest.mark.parametrize("ids", [[], ["--fresh-ids"]], ids=["same ids", "fresh ids"])
async def test_aloud_into_the_live_stream_it_changes_no_balance(ids: list[str], left: Shop) -> None:
    await left.start_nats()
    async with left.broker() as nc:  # or the broker would know the ids, and take none of them again
        js = nc.jetstream()
        config = (await js.stream_info("EVENTS")).config
        config.duplicate_window = 0.1
        await js.update_stream(config)
    await left.start()
    await left.until_quiet()
    given, events = await heard(left), await messages(left, "EVENTS")
    before = await balances(left), await ends(left), await ranking(left)

    told = await summary(left, "--aloud", "--to", url(left), *ids)
    await left.until_quiet()

    assert told["messages"] == events
    again = events - told["duplicates"]  # what the relays sent just before is still known
    assert again > events / 2
    assert await messages(left, "EVENTS") == events + again
    assert all(later > earlier for later, earlier in zip(await heard(left), given, strict=True))
    assert (await balances(left), await ends(left), await ranking(left)) == before
    for name in service_names():
        assert await left.stop(name) == 0
    await left.start()
    await left.until_quiet()
    assert (await balances(left), await ends(left)) == before[:2]
    audited = await orders(left, "audit", "--at-rest", "--json")
    rules = json.loads(audited.stdout)["findings_by_rule"]
    assert set(rules) == ({"11"} if ids else set()), "under fresh ids it is foreign"


# Pace, ends and mistakes ----------------------------------------------------------------------------------------------


async def replaying(shop: Shop, *arguments: str) -> asyncio.subprocess.Process:
    """A replay so slow that it is never over."""
    return await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "ops.orders", "replay", "--speed", "0.001", *arguments],
        cwd=ROOT,
        env={**os.environ, **shop.env, "COLUMNS": "160"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, said = await process.communicate()
            return process.returncode, said.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("how", ["stopped", "broker gone"])
async def test_cut_short_it_says_how_far_it_got(how: str, left: Shop, other: Shop) -> None:
    await left.start_nats()
    process = await replaying(left, "--to", url(other))
    async for _ in attempts("the first messages"):
        async with other.broker() as nc:
            names = [info.config.name for info in await nc.jetstream().streams_info()]
        if "REPLAY" in names and await messages(other, "REPLAY") > 1:  # so the first one's acknowledgement was read
            break

    if how == "stopped":
        process.send_signal(signal.SIGINT)
    else:
        await other.kill("nats")
    code, said = await ended(process)

    assert code == (130 if how == "stopped" else 3), said
    match = re.search(
        r"([\d,]+) messages are acknowledged, all of them up to sequence (\d+): --first (\d+) goes on", said
    )
    assert match, said
    assert int(match[3]) == int(match[2]) + 1 > 1


async def test_exit_codes_tell_scripts_what_is_wrong(left: Shop, other: Shop, tmp_path: Path) -> None:
    away = await orders(left, "replay")
    await left.start_nats()
    no_target = await orders(left, "replay", "--to", "nats://user:secret@127.0.0.1:1")
    nothing = await orders(left, "replay", "--subject", "basket.>")
    bad_line = tmp_path / "bad.jsonl"
    good = (await orders(left, "replay", "--last", "1")).stdout
    bad_line.write_text(f"{good}{good[:-9]}\n")
    usage = [
        ["--from", str(bad_line), "--to", url(other)],
        ["--from", str(tmp_path / "none.jsonl")],
        ["--subject", "point charged"],
        ["--last", "1", "--until", "2026-01-01T00:00:00Z"],
        ["--since", "yesterday"],
        ["--aloud"],
        ["--aloud", "--to", url(other), "--stream", "COPY"],
        ["--fresh-ids", "--to", url(other)],
        ["--to", url(other), "--prefix", "order"],
        ["--stream", "EVENTS"],
        ["--speed", "0"],
        ["--to", "http://127.0.0.1"],
    ]
    mistaken = [await orders(left, "replay", *arguments) for arguments in usage]

    assert [done.returncode for done in (away, no_target, nothing)] == [3, 3, 1]
    assert "just up" in away.stderr
    assert "secret" not in no_target.stderr + no_target.stdout
    assert [(arguments, done.returncode) for arguments, done in zip(usage, mistaken, strict=True)] == [
        (arguments, 2) for arguments in usage
    ]
    assert "line 2" in mistaken[0].stderr
    async with other.broker() as nc:
        assert await nc.jetstream().streams_info() == [], "nothing was changed"
