"""A day of 2,000 orders decided again: the same decisions; and systems at work, whole or with a step that is down."""

import asyncio
import contextlib
import itertools
import json
import sqlite3
from pathlib import Path

from contracts.wire import fact_id
from infra.local.services import service_names
from tests.ops.asking import orders, told
from tests.saga.rush import Rush
from tests.shop import Shop, attempts, background, log_of

AT_ONCE = 100  # orders


async def test_a_day_gives_the_same_decisions(left: Shop) -> None:
    found = await told(left, "what-if")

    assert found["decisions"] > 8_000
    assert (found["differences"], found["open"], found["unjudged"]) == (0, 0, 0)
    assert list(found["services"]) == service_names()
    assert all(tally["decisions"] > 1_500 for tally in found["services"].values())
    assert found["asked"] > 8_000


async def test_a_record_that_was_altered_is_named(left: Shop) -> None:
    position, stream, version = alter(left, "coupon", '"discount":300}', '"discount":299}', topic="coupon.used")

    done = await orders(left, "what-if", "--json")
    found = json.loads(done.stdout)

    assert done.returncode == 1
    in_order, in_coupon = found["shown"]
    assert in_coupon["position"] == position - 1, "the decision begins with coupon.held"
    assert in_coupon["recorded"] == ["coupon.held", "coupon.used"]
    assert in_coupon["fields"] == [{"fact": "coupon.used", "field": "discount", "recorded": 299, "now": 300}]
    assert (in_order["cause"], in_order["recorded"]) == (fact_id(stream, version), ["order.confirmed"])
    assert {name: tally["differences"] for name, tally in found["services"].items()} == {
        "order": 1,
        "product": 0,
        "point": 0,
        "coupon": 1,
    }
    listed = (await orders(left, "what-if")).stdout
    assert f"coupon_svc, position {position - 1}, {in_coupon['fact_id']} because of point.used (pointuse-" in listed


def alter(shop: Shop, service: str, old: str, new: str, *, topic: str) -> tuple[int, str, int]:
    """Change the first record of this topic that has `old`; where it stands."""
    with contextlib.closing(sqlite3.connect(shop.folder / service / "events.sqlite")) as store:
        where = "topic = ? AND instr(CAST(state AS TEXT), ?)"
        row = store.execute(
            f"SELECT rowid, originator_id, originator_version, state FROM stored_events WHERE {where} LIMIT 1",
            (topic, old),
        ).fetchone()
        body = row[3].replace(old.encode(), new.encode())
        store.execute("UPDATE stored_events SET state = ? WHERE rowid = ?", (body, row[0]))
        store.commit()
    return int(row[0]), str(row[1]), int(row[2])


async def test_from_a_file(left: Shop, tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    await left.start_nats()
    lines = (await orders(left, "replay")).stdout.encode().splitlines()
    file.write_bytes(b"\n".join(reversed(lines)))

    found = await told(left, "what-if", "--history", str(file), DATA_DIR="nowhere")
    assert {**found, "services": {}} == {**await told(left, "what-if"), "services": {}}

    file.write_bytes(b"\n".join([*lines[:100], b"{"]))
    done = await orders(left, "what-if", "--history", str(file))
    assert done.returncode == 2
    assert "line 101" in done.stderr


async def test_while_the_services_are_at_work(shop: Shop) -> None:
    rush = Rush(shop, 0)
    await rush.prepare()
    enough = asyncio.Event()

    async def keep_busy() -> None:
        for start in itertools.count(0, AT_ONCE):
            if enough.is_set():
                return
            await rush.place(range(start, start + AT_ONCE))

    async with background(keep_busy()):
        found = [await told(shop, "what-if") for _ in range(2)]
        enough.set()
    await shop.until_quiet()
    found.append(await told(shop, "what-if"))

    assert [(one["differences"], one["unjudged"]) for one in found] == [(0, 0)] * 3
    assert found[0]["decisions"] < found[1]["decisions"] < found[2]["decisions"]
    assert found[2]["open"] == 0


async def test_what_a_step_that_is_down_has_not_heard_is_counted_apart(left: Shop) -> None:
    left.env["ORDER_WAIT_S"] = "0.1"
    await left.start_nats()
    await left.start()
    await left.until_quiet()
    await left.stop("coupon")
    for number in range(3):
        answer = await left.place([("product0", 1)], user=f"late{number}")
        assert answer.status_code == 202
    async for _ in attempts("what the coupon service will hear"):
        if sum(b'"user_id":"late' in entry.body for entry in log_of(left.folder, "point")) == 3:
            break

    found = await told(left, "what-if")

    assert (found["differences"], found["open"]) == (0, 3)
    assert found["services"]["coupon"]["open"] == 3
