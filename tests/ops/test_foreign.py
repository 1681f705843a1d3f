"""Messages in EVENTS that no service published: named by the audit, and in nobody's way."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
from msgspec.structs import replace

from contracts import OrderCanceled, PointCharged
from contracts.wire import MSG_ID, POSITION, STREAM, VERSION, encode, must_hear
from infra.local.services import service_names
from tests.ops import damage
from tests.ops.asking import orders, told
from tests.ops.damage import rows
from tests.ops.test_rebuild import balances
from tests.ops.test_replay import other, ranking, url
from tests.saga.test_dead_letters import letters, until_parked
from tests.shop import Shop, attempts

__all__ = ["other"]


class Foreign(NamedTuple):
    subject: bytes
    body: bytes
    headers: Mapping[bytes, bytes] = {}


def odd(shop: Shop) -> tuple[str, list[Foreign]]:
    """An order, and messages of all kinds under its subjects and others'."""
    used = damage.row(shop, "point.used", lambda found: found.fact.order.coupon_id is not None)
    its, order_id = used.body, used.fact.order_id
    key = order_id.encode()
    id_ = used.fact_id.encode()
    place = {STREAM.encode(): used.stream.encode(), VERSION.encode(): b"%d" % used.version}
    return order_id, [
        Foreign(b"point.used.xyz", b"garbage"),
        Foreign(b"point.used." + key, b"garbage"),
        Foreign(b"order.confirmed." + key, b"\xff\xfe"),
        Foreign(b"coupon.used." + key, b"", {b"Status": b"404", b"Nats-Sequence": b"1", b"Nats-Subject": b"x"}),
        Foreign(b"product.reserved." + key, b"[" * 10_000),
        Foreign(b"order.created.pending." + key, b"{}", {b"Their-Own": b"\xff\xfe", b"Two": b"a\rb\nc"}),
        Foreign(b"point.used." + key, its, {b"Nats-Expected-Stream": b"EVENTS", b"traceparent": b"00-1-2-3"}),
        Foreign(b"point.used." + key, its, {MSG_ID.encode(): b"", **place}),
        Foreign(b"point.used." + key, its, {MSG_ID.encode(): b"x" * 300, **place, POSITION.encode(): b"1"}),
        Foreign(b"point.used.", its, {MSG_ID.encode(): id_ + b" ", **place, POSITION.encode(): b"9" * 5_000}),
        Foreign(b"point.used.other", its, {MSG_ID.encode(): id_ + b"\t", **place, POSITION.encode(): b"1"}),
        Foreign(b"point.used.a.b.c", b"1e999"),
        Foreign(b"point.used.\xff\x1b[31m", b"1" * 5_000),
        Foreign(b"coupon.issued.x", b'{"type":"coupon.issued"}', {MSG_ID.encode(): b"coupon-x@9"}),
        Foreign(b"product.registered.x", b'{"type":"product.registered","name":"\\ud800"}'),
    ]


async def say(shop: Shop, *messages: Foreign) -> list[int]:
    """Publish these bytes as they are; their sequences in EVENTS."""
    async with shop.broker() as nc:
        js = nc.jetstream()
        first = (await js.stream_info("EVENTS")).state.last_seq + 1
        for subject, body, headers in messages:
            head = b"".join([b"NATS/1.0\r\n", *(b"%b: %b\r\n" % pair for pair in headers.items()), b"\r\n"])
            line = b"HPUB %b %d %d\r\n" % (subject.rstrip(b"."), len(head), len(head) + len(body))
            await nc._send_command(line + head + body + b"\r\n")
        await nc.flush()
        async for _ in attempts("all of them to be stored"):
            last = (await js.stream_info("EVENTS")).state.last_seq
            if last == first + len(messages) - 1:
                return list(range(first, last + 1))
    raise AssertionError


async def forge(shop: Shop, row: damage.Row) -> int:
    """Publish a record as a relay would; its sequence in EVENTS."""
    event = damage.as_event(row)
    head = {MSG_ID: row.fact_id, STREAM: row.stream, VERSION: str(row.version), POSITION: str(row.position)}
    async with shop.broker() as nc:
        async for _ in attempts("the id to be forgotten"):
            ack = await nc.jetstream().publish(event.subject, event.raw, headers=head)
            if not ack.duplicate:
                return ack.seq
    raise AssertionError


async def audited(shop: Shop, *arguments: str) -> tuple[int, Any]:
    done = await orders(shop, "audit", "--answers", "0", "--at-rest", "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


async def test_the_audit_names_each_until_a_person_knows_it(left: Shop) -> None:
    await left.start_nats()
    _, foreign = odd(left)
    first, *rest = await say(left, *foreign)

    code, report = await audited(left)
    assert (code, report["findings_by_rule"]) == (1, {"11": len(foreign)})
    for sequence, (_, where, what) in zip([first, *rest], report["findings"], strict=True):
        assert f"sequence {sequence}, " in where
        assert where.isprintable()
        assert f"just audit --foreign {sequence}" in what
    assert report["foreign"] == {"known": 0, "found": len(foreign)}

    code, report = await audited(left, "--foreign", str(first))
    assert (code, report["foreign"]) == (1, {"known": 1, "found": len(rest)})
    code, report = await audited(left, "--foreign", "all")
    assert (code, report["findings"], report["foreign"]) == (0, [], {"known": len(foreign), "found": 0})
    assert (await audited(left))[0] == 0
    assert (await audited(left, "--full"))[1]["foreign"] == {"known": len(foreign), "found": 0}

    (again,) = await say(left, foreign[0])
    code, report = await audited(left)
    assert (code, len(report["findings"]), f"sequence {again}" in report["findings"][0][1]) == (1, 1, True)
    wrong = await orders(left, "audit", "--answers", "0", "--foreign", str(first))
    assert (wrong.returncode, "--full" in wrong.stderr) == (2, True)
    assert (await orders(left, "audit", "--foreign", "none")).returncode == 2


async def test_every_tool_passes_them_over(left: Shop, other: Shop) -> None:
    await left.start_nats()
    before = {name: rows(left, name) for name in service_names()}
    order_id, foreign = odd(left)
    traced = await told(left, "trace", order_id)
    history = (await orders(left, "replay")).stdout
    await say(left, *foreign)

    again = await orders(left, "trace", order_id, "--json")
    assert json.loads(again.stdout) == traced
    assert "foreign messages, which no service published, are left out" in again.stderr
    for how in ([], ["--mermaid"]):
        assert (await orders(left, "trace", order_id, *how)).returncode == 0

    replayed = await orders(left, "replay")
    assert replayed.returncode == 0, replayed.stderr
    assert replayed.stdout.startswith(history)
    assert "left out" in replayed.stderr
    lines = left.folder / "lines.jsonl"
    lines.write_text(replayed.stdout)
    for arguments in (
        ["--to", url(other)],
        ["--from", str(lines), "--to", url(other), "--stream", "SECOND", "--prefix", "second"],
    ):
        done = await orders(left, "replay", *arguments)
        assert done.returncode == 0, done.stderr
    decided = await orders(left, "what-if", "--history", str(lines), "--json")
    assert (decided.returncode, json.loads(decided.stdout)["differences"]) == (0, 0), decided.stderr
    assert "foreign messages are passed over" in decided.stderr

    (left.folder / "point" / "events.sqlite").unlink()
    for name in service_names():
        rebuilt = await told(left, "rebuild", name)
        assert (rebuilt["facts"], rebuilt["lost"]) == (len(before[name]), 0)
        assert rebuilt["foreign"] > 0
    assert {name: rows(left, name) for name in service_names()} == before


async def test_views_answers_and_orders_are_as_before(left: Shop) -> None:
    await left.start_nats()
    await left.start()
    await left.until_quiet()
    order_id, foreign = odd(left)
    user = damage.row(left, "point.used", lambda found: found.fact.order_id == order_id).fact.order.user_id
    before = await left.order(order_id, user), await balances(left), await ranking(left)
    log = {name: len(rows(left, name)) for name in service_names()}
    async with left.broker() as nc:
        state = (await nc.jetstream().stream_info("EVENTS")).state.last_seq

    await say(left, *foreign)
    await left.post("product", "/ops/views/popular/rebuild")

    await left.until_quiet()
    parked = await letters(left)
    assert len({letter.consumer for letter in parked}) == len(service_names()), "each service hears some of them"
    assert {letter.origin.sequence for letter in parked} <= set(range(state + 1, state + 1 + len(foreign)))
    async for _ in attempts("the ranking to be back"):
        if (await left.get("product", "/products/popular")).status_code == 200:
            break
    assert (await left.order(order_id, user), await balances(left), await ranking(left)) == before
    assert {name: len(rows(left, name)) for name in service_names()} == log
    for letter in parked:
        assert (await orders(left, "dlq", "drop", str(letter.sequence), "--yes")).returncode == 0
    assert await letters(left) == []
    assert (await left.place([("product1", 1)], user="customer1", key="after")).status_code == 200
    await left.until_quiet()
    assert (await orders(left, "audit", "--at-rest", "--foreign", "all")).returncode == 0
    assert (await orders(left, "audit", "--at-rest")).returncode == 0
    for name in service_names():
        assert await left.stop(name) == 0
    await left.start()
    await left.until_quiet()


async def test_a_valid_fact_that_no_service_published_has_no_answer(left: Shop) -> None:
    """Anybody can make one. What would follow from it would have a cause that does not exist, for good."""
    await left.start_nats()
    await left.start()
    await left.until_quiet()
    log = {name: len(rows(left, name)) for name in service_names()}
    used = damage.row(left, "point.used").fact
    forged = replace(used, order_id="nobodys")

    await say(left, Foreign(b"point.used.nobodys", encode(forged)))

    (letter,) = await until_parked(left, 1)
    assert "ForeignMessage: lacks the headers that a service gives its facts" in letter.error
    assert {name: len(rows(left, name)) for name in service_names()} == log


async def test_a_valid_fact_with_a_part_of_a_relays_headers_moves_no_money(left: Shop) -> None:
    await left.start_nats()
    await left.start()
    await left.until_quiet()
    log = {name: len(rows(left, name)) for name in service_names()}
    ended = {row.stream for row in rows(left, "order") if row.topic == "order.canceled"}
    kept = [row.fact for row in rows(left, "order") if row.topic == "order.confirmed" and row.stream not in ended]
    id_, of, version, position = (name.encode() for name in (MSG_ID, STREAM, VERSION, POSITION))

    def parts(stream: bytes) -> list[dict[bytes, bytes]]:
        return [
            {},
            {id_: stream + b"@3"},
            {id_: stream + b"@999"},
            {of: stream, version: b"3"},
            {id_: stream + b"@3", of: stream, version: b"3"},
            {id_: b"zz@1", of: stream, version: b"3", position: b"99999"},
            {id_: stream + b"@2x", of: stream, version: b"2", position: b"1"},
        ]

    withdrawn = [
        Foreign(
            f"order.canceled.{its.order_id}".encode(),
            encode(OrderCanceled(at=its.at, order_id=its.order_id, order=its.order, reason="customer-canceled")),
            parts(its.stream.encode())[number],
        )
        for number, its in enumerate(kept[: len(parts(b""))])
    ]

    sequences = await say(left, *withdrawn)

    assert len(sequences) == len(parts(b""))
    hear = [name for name in service_names() if OrderCanceled in must_hear(name)]
    found = await until_parked(left, len(hear) * len(sequences))
    assert {letter.origin.sequence for letter in found} == set(sequences)
    assert {name: len(rows(left, name)) for name in service_names()} == log
    code, report = await audited(left)
    assert (code, report["findings_by_rule"]) == (1, {"11": len(sequences)})


async def test_forged_facts_are_told_from_ours_by_the_store_or_by_a_person(left: Shop) -> None:
    await left.start_nats()
    before = rows(left, "point")
    used = damage.row(left, "point.used")
    charged = PointCharged(at=used.fact.at, user_id="eve", amount=10**6, idempotency_key="forged")
    changed = encode(replace(used.fact, points=used.fact.points + 1))

    await damage.rewrite_stream(left, lambda events: events)  # with a short window: the broker forgets the ids
    sequences = [
        await forge(left, used._replace(body=changed)),
        await forge(left, used._replace(position=used.position + 1)),
        await forge(left, damage.Row(3, "account-eve", 1, "point.charged", encode(charged))),
    ]

    rebuilt = await told(left, "rebuild", "point")
    assert (rows(left, "point"), rebuilt["foreign"], rebuilt["lost"]) == (before, 3, 0)

    (left.folder / "point" / "events.sqlite").unlink()
    refused = await orders(left, "rebuild", "point")
    assert refused.returncode == 1
    assert f"just audit --foreign {sequences[0]}" in refused.stderr
    await told(left, "rebuild", "order")  # others are not affected

    aside = max((left.folder / "point").glob("replaced-*"))
    (aside / "events.sqlite").rename(left.folder / "point" / "events.sqlite")
    code, report = await audited(left)
    assert (code, set(report["findings_by_rule"])) == (1, {"8"})
    assert all("just audit --foreign" in what for _, _, what in report["findings"])
    judged = [argument for sequence in sequences for argument in ("--foreign", str(sequence))]
    assert (await audited(left, *judged))[0] == 0
    (left.folder / "point" / "events.sqlite").unlink()
    assert (await told(left, "rebuild", "point"))["foreign"] == 3
    assert rows(left, "point") == before


async def test_a_service_goes_on_once_a_person_knows_the_forged_fact_beyond_its_log(left: Shop) -> None:
    await left.start_nats()
    before = rows(left, "point")
    charged = PointCharged(at=damage.row(left, "point.used").fact.at, user_id="eve", amount=5, idempotency_key="forged")
    beyond = await forge(left, damage.Row(before[-1].position + 1, "account-eve", 1, "point.charged", encode(charged)))
    far = await forge(left, damage.Row(99_999, "account-eve", 2, "point.charged", encode(charged)))

    await left.start(*service_names(), ready=False)
    for sequence in (far, beyond):
        async for _ in attempts("point_svc to say what is wrong, and what to do"):
            with contextlib.suppress(httpx.TransportError):
                if f"just audit --foreign {sequence}" in (await left.get("point", "/readyz")).text:
                    break
        assert rows(left, "point") == before
        done = await orders(left, "audit", "--foreign", str(sequence))
        assert (done.returncode, sequence) in {(1, far), (0, beyond)}, done.stdout + done.stderr
        assert "not asked: point_svc, as it is not ready" in done.stdout

    async for _ in attempts("point_svc to go on by itself"):
        if (await left.get("point", "/readyz")).status_code == 200:
            break
    await left.charge("after", 10)
    async for _ in attempts("the stream to have it"):
        if any(event.subject == "point.charged.after" for event in await left.events()):
            break
    assert not any(row.stream == "account-eve" for row in rows(left, "point"))
    (left.folder / "foreign.json").write_text("{")
    await left.stop("point")
    await left.start("point", ready=False)
    async for _ in attempts("point_svc to say that it cannot read the file"):
        if "the acknowledged foreign messages cannot be read" in left.log("point").read_text():
            break
