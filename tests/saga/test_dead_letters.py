"""A message that a service cannot handle: parked, with what comes behind it, and handled again when it can be."""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION
from infra.consuming.dead_letter import DeadLetter
from infra.consuming.stored_dead_letters import read
from tests.metrics import value
from tests.ops.asking import orders, told
from tests.shop import Shop, attempts, consumers_of, open_shop

TEA = [("tea", 1)]


async def letters(shop: Shop) -> list[DeadLetter]:
    async with shop.broker() as nc:
        return [letter async for letter in read(nc, "dead.>")]


async def until_parked(shop: Shop, number: int) -> list[DeadLetter]:
    async for _ in attempts(f"{number} dead letters"):
        found = await letters(shop)
        if len(found) == number:
            return found
    raise AssertionError


async def say(shop: Shop, subject: str, body: bytes, fact_id: str = "") -> None:
    async with shop.broker() as nc:
        await nc.jetstream().publish(subject, body, headers={MSG_ID: fact_id} if fact_id else {"Their-Own": "täg"})


async def depths(shop: Shop, service: str) -> dict[str, int]:
    found = (await shop.get(service, "/ops/dead-letters")).json()["consumers"]
    return {consumer["consumer"]: consumer["letters"] for consumer in found}


async def confirmed(shop: Shop, points: int) -> None:
    """Order, and wait for its confirmation."""
    order_id = (await shop.place(TEA, points=points)).json()["order_id"]
    assert (await shop.until_ended(order_id))["status"] == "CONFIRMED"


async def acknowledged(shop: Shop, listener: str) -> None:
    async with shop.broker() as nc:
        async for _ in attempts(f"{listener} to acknowledge everything"):
            found = await consumers_of(nc.jetstream(), listener)
            if not any(info.num_pending or info.num_ack_pending for info in found):
                return


@pytest.fixture
async def stocked(tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop that sells tea and knows a customer with points."""
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="5") as shop:
        await shop.register("tea")
        await shop.charge("u1", 10_000)
        yield shop


async def test_what_nobody_can_read_is_parked_with_all_there_is_to_know_and_orders_go_on(stocked: Shop) -> None:
    await say(stocked, "product.reserved.nobody", b"\xff not a fact")

    (letter,) = await until_parked(stocked, 1)

    assert (letter.consumer, letter.key, letter.subject) == ("point", "nobody", "product.reserved.nobody")
    assert (letter.body, letter.attempts) == (b"\xff not a fact", 4)
    assert "Their-Own: täg" in letter.head.decode()
    assert "DecodeError" in letter.error
    assert "Traceback" in letter.stack
    assert letter.origin.sequence > 0
    await acknowledged(stocked, "point")
    await confirmed(stocked, 10)
    assert await letters(stocked) == [letter]


async def test_a_bug_parks_one_order_and_what_comes_behind_it_until_it_is_mended(stocked: Shop) -> None:
    stocked.env["ALLERGIC_TO"] = '"points":13'
    await stocked.stop("point")
    await stocked.start("point", wrapper="allergic")

    stuck = (await stocked.place(TEA, points=13)).json()["order_id"]
    await confirmed(stocked, 12)
    found = await until_parked(stocked, 2)  # the deadline cancels it, and that waits behind

    assert [letter.subject for letter in found] == [f"product.reserved.{stuck}", f"order.canceled.{stuck}"]
    assert [letter.attempts for letter in found] == [4, 0]
    assert "ZeroDivisionError: a bug" in found[0].error
    assert found[1].error == f"waits behind {found[0].sequence}"
    await acknowledged(stocked, "point")
    view = await stocked.order(stuck)
    assert (view["status"], view["compensated"]) == ("CANCELED", False)
    ready = (await stocked.get("point", "/readyz")).json()
    assert ready["ready"]
    assert "point has 2 dead letters" in ready["warnings"][0]
    metrics = (await stocked.get("point", "/metrics")).text
    assert 'saga_dead_letters{consumer="point"} 2.0' in metrics
    assert value(metrics, "saga_dead_letters_parked_total", error="other") == 1
    assert value(metrics, "saga_dead_letters_parked_total", error="waits") == 1
    age = re.search(r'^saga_dead_letter_oldest_age_seconds{consumer="point"} (.+)$', metrics, re.MULTILINE)
    assert age is not None
    assert 0 < float(age[1]) <= (datetime.now(UTC) - found[0].at).total_seconds()

    # A new process knows them, and one that still has the bug changes nothing.
    await stocked.kill("point")
    await stocked.start("point", wrapper="allergic")
    still = await orders(stocked, "dlq", "redrive", str(found[0].sequence), "--yes")
    assert (still.returncode, "still cannot be handled: ZeroDivisionError: a bug" in still.stdout) == (1, True)
    metrics = (await stocked.get("point", "/metrics")).text
    assert value(metrics, "saga_dead_letter_actions_total", action="redrive", outcome="fails") == 1
    assert await letters(stocked) == found

    await stocked.stop("point")
    await stocked.start("point")
    preview = await told(stocked, "dlq", "redrive", str(found[1].sequence))
    assert [[said["fact"] for said in outcome["recorded"]] for outcome in preview[0]["outcomes"]] == [
        ["point.debited", "point.used"],
        ["point.credited", "point.refunded"],
    ]
    assert await letters(stocked) == found
    await told(stocked, "dlq", "redrive", str(found[1].sequence), "--yes")

    assert await letters(stocked) == []
    assert (await stocked.until_ended(stuck))["compensated"]
    assert (await stocked.get("point", "/readyz")).json()["warnings"] == []
    assert (await stocked.get("point", "/points/u1")).json()["balance"] == 10_000 - 12
    assert (await orders(stocked, "audit", "--at-rest")).returncode == 0


async def test_what_is_dropped_is_gone_and_what_was_behind_it_can_be_redriven(stocked: Shop) -> None:
    order_id = (await stocked.place(TEA, points=10)).json()["order_id"]
    await say(stocked, f"product.reserved.{order_id}", b"{}", "forged@1")
    await until_parked(stocked, 1)
    await stocked.post("order", f"/orders/{order_id}/cancel", user="u1")
    poison, behind = await until_parked(stocked, 2)

    shown = await orders(stocked, "dlq", "drop", str(poison.sequence))
    assert "nothing was changed" in shown.stdout
    assert len(await letters(stocked)) == 2
    dropped = await orders(stocked, "dlq", "drop", str(poison.sequence), "--yes")
    assert (dropped.returncode, dropped.stdout) == (
        0,
        f"dropped {poison.sequence}; {behind.sequence} waited behind it: just dlq redrive {behind.sequence} --yes\n",
    )
    assert await letters(stocked) == [behind]
    gone = f"waited behind {poison.sequence}, which is gone: redrive it"
    assert gone in (await orders(stocked, "dlq", "ls")).stdout
    assert gone in (await orders(stocked, "dlq", "show", str(behind.sequence))).stdout
    again = await orders(stocked, "dlq", "drop", str(poison.sequence), "--yes")
    assert (again.returncode, again.stderr) == (1, f"there is no dead letter {poison.sequence}\n")

    await told(stocked, "dlq", "redrive", "--all", "--yes")
    assert (await stocked.until_ended(order_id))["compensated"]
    assert await depths(stocked, "point") == {"point": 0}


async def test_several_are_dropped_at_once(stocked: Shop) -> None:
    for key in ("here", "there", "elsewhere"):
        await say(stocked, f"coupon.used.{key}", b"[]")
    first, second, third = await until_parked(stocked, 3)
    numbers = [str(one.sequence) for one in (first, second, first)]

    shown = await told(stocked, "dlq", "drop", *numbers)
    assert [(one["sequence"], one["dropped"]) for one in shown] == [(first.sequence, False), (second.sequence, False)]
    unknown = await orders(stocked, "dlq", "drop", *numbers, str(third.sequence + 1), "--yes")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert await letters(stocked) == [first, second, third]

    dropped = await orders(stocked, "dlq", "drop", *numbers, "--yes")
    assert (dropped.returncode, dropped.stdout.count("dropped ")) == (0, 2)
    assert await letters(stocked) == [third]
    (last,) = await told(stocked, "dlq", "drop", str(third.sequence), "--yes")
    assert (last["sequence"], last["dropped"], last["left"]) == (third.sequence, True, 0)
    assert await letters(stocked) == []


async def test_the_list_and_one_letter_for_people_and_machines(stocked: Shop) -> None:
    nothing = await orders(stocked, "dlq", "ls")
    assert (nothing.returncode, nothing.stdout) == (0, "no dead letters\n")
    await say(stocked, "coupon.used.here", b"[]")
    (letter,) = await until_parked(stocked, 1)

    listed = await orders(stocked, "dlq", "ls", "--json")
    shown = await orders(stocked, "dlq", "show", str(letter.sequence))

    assert listed.returncode == 1
    (one,) = json.loads(listed.stdout)
    assert (one["consumer"], one["key"], one["body"]) == ("order", "here", "[]")
    assert "coupon.used" in (await orders(stocked, "dlq", "ls")).stdout
    assert "Traceback" in shown.stdout
    assert shown.stdout.endswith("\n[]\n")


async def test_whatever_anybody_writes_stops_no_service_and_no_command(stocked: Shop) -> None:
    async with stocked.broker() as nc:
        subjects = [f"product.reserved.{key}" for key in ("a\x0bb", "\x1b[31m", "k" * 3_900, "*", "täg")]
        for subject in subjects:
            await nc.publish(subject, b"[/b] \x1b[2J", headers={MSG_ID: "x" * 5_000 + subject, "Big": "ä" * 20_000})
        await nc.flush()
    found = await until_parked(stocked, len(subjects))
    async with stocked.broker() as nc:
        await nc.publish("dead.point.\x1bc", b"", headers={"Dead-Error": "für [/b]", "Dead-Attempts": "9" * 5_000})
        await nc.publish("dead.nobody", b"\xff")
        await nc.flush()

    await confirmed(stocked, 10)
    await stocked.kill("point")
    await stocked.start("point")
    await confirmed(stocked, 10)
    assert await depths(stocked, "point") == {"point": len(subjects) + 1}
    listed = await orders(stocked, "dlq", "ls")
    assert (listed.returncode, listed.stderr) == (1, "")
    assert "für [/b]" in listed.stdout
    assert len(json.loads((await orders(stocked, "dlq", "ls", "--json")).stdout)) == len(subjects) + 2
    for letter in await letters(stocked):
        shown = await orders(stocked, "dlq", "show", str(letter.sequence))
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "\x1b" not in listed.stdout + shown.stdout
    redriven = await orders(stocked, "dlq", "redrive", str(found[2].sequence), "--yes")
    assert (redriven.returncode, "still cannot be handled" in redriven.stdout) == (1, True)
    dropped = await orders(stocked, "dlq", "drop", str(found[0].sequence), "--yes")
    assert dropped.returncode == 0


async def test_a_view_of_the_stream_parks_what_it_cannot_read_and_goes_on(stocked: Shop) -> None:
    place = {MSG_ID: "order-odd@2", STREAM: "order-odd", VERSION: "2", POSITION: "1"}
    async with stocked.broker() as nc:
        body = b'{"type":"order.confirmed","order_id":"odd"}'
        await nc.jetstream().publish("order.confirmed.odd", body, headers=place)
    (letter,) = await until_parked(stocked, 1)
    assert letter.consumer == "product-popular"

    await confirmed(stocked, 0)
    async for _ in attempts("the ranking to have it"):
        with contextlib.suppress(httpx.TransportError):
            ranked = (await stocked.get("product", "/products/popular")).json()
            if [product["quantity"] for product in ranked.get("products", [])] == [1]:
                break
    await stocked.post("product", "/ops/views/popular/rebuild")
    async for _ in attempts("the ranking to be back"):
        if (await stocked.get("product", "/products/popular")).status_code == 200:
            break
    assert await letters(stocked) == [letter]


async def test_a_broker_that_lost_everything_hears_of_the_letters_again(stocked: Shop) -> None:
    await say(stocked, "product.reserved.nobody", b"nothing")
    before = await until_parked(stocked, 1)
    await stocked.kill("nats")
    stocked.lose_stream()

    await stocked.start_nats()

    after = await until_parked(stocked, 1)
    assert [(letter.subject, letter.body, letter.error) for letter in after] == [
        (letter.subject, letter.body, letter.error) for letter in before
    ]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("redrive", {"consumer": "point", "key": "none"}, 404, id="no letters of this key"),
        pytest.param("redrive", {"consumer": "nobody", "key": "none"}, 404, id="no such consumer"),
        pytest.param("redrive", {"consumer": "point"}, 400, id="no key"),
        pytest.param("drop", {"consumer": "point", "key": "none", "sequence": 0}, 400, id="no sequence"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_bad_questions_are_refused(open_all_day: Shop, path: str, body: dict[str, Any], status: int) -> None:
    answer = await open_all_day.post("point", f"/ops/dead-letters/{path}", body)

    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


@pytest.mark.asyncio(loop_scope="module")
async def test_bad_commands_are_refused(open_all_day: Shop) -> None:
    for arguments, code in ((["redrive"], 2), (["redrive", "0"], 2), (["show", "x"], 2), (["show", "99"], 1)):
        assert (await orders(open_all_day, "dlq", *arguments)).returncode == code
