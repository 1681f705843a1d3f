"""What the working tree cannot read, or what is not there, is told record by record, and the rest is judged."""

import random

import msgspec
import pytest
from msgspec.structs import replace

from contracts.wire import decode, encode
from infra.store.records import Notification
from ops.what_if.command import codes
from ops.what_if.difference import Changed, id_of
from ops.what_if.history import BadHistory, HistoryInMemory, read
from ops.what_if.judge import Runs
from ops.what_if.report import WhatIfReport, decide_again
from tests.what_if.recorded import FILE, logs_of, recorded, replaced, told, verdict

RecordedLogs = dict[str, list[Notification]]


@pytest.fixture
async def logs() -> RecordedLogs:
    return await logs_of(recorded())


def first(logs: RecordedLogs, service: str, topic: str, having: bytes = b"") -> Notification:
    return next(record for record in logs[service] if record.topic == topic and having in record.state)


def last_of_its_stream(logs: RecordedLogs, service: str, topic: str, having: bytes = b"") -> Notification:
    ends = {record.originator_id: record for record in logs[service]}
    return first({service: list(ends.values())}, service, topic, having)


def places(report: WhatIfReport) -> list[tuple[str, str, int | None, str | None]]:
    return [(one.service, one.kind, one.position, one.fact_id) for one in report.differences]


# Records that were changed --------------------------------------------------------------------------------------------


async def test_a_field_that_was_changed_shows_in_its_decision_and_in_the_answer_to_it(logs: RecordedLogs) -> None:
    used = first(logs, "coupon", "coupon.used", b'"discount":300')
    body = used.state.replace(b'"discount":300', b'"discount":299')
    report = await verdict(replaced(logs, id_of(used), lambda record: record._replace(state=body)))

    one, other = sorted(report.differences, key=lambda found: found.service)
    assert (one.service, one.position, one.fact_id) == ("coupon", used.position, id_of(used))
    assert one.fields == (Changed("coupon.used", "discount", 299, 300),)
    assert (other.service, other.cause, other.heard) == ("order", id_of(used), "coupon.used")
    assert {(field.fact, field.field) for field in other.fields} == {
        ("order.confirmed", "discount"),
        ("order.confirmed", "amount_due"),
    }


async def test_fields_in_another_order_are_another_record(logs: RecordedLogs) -> None:
    used = first(logs, "point", "point.used")
    body = msgspec.json.encode(dict(reversed(msgspec.json.decode(used.state).items())))
    report = await verdict(replaced(logs, id_of(used), lambda record: record._replace(state=body)))

    (found,) = report.differences
    assert (found.kind, found.position, found.fields) == ("differs", used.position, ())
    assert found.why == "the same fields, written in another way or on another stream"


async def test_a_field_that_only_one_side_has(logs: RecordedLogs) -> None:
    used = first(logs, "point", "point.used")
    body = used.state.removesuffix(b"}") + b',"rate":{"of":[1]}}'
    report = await verdict(replaced(logs, id_of(used), lambda record: record._replace(state=body)))

    (found,) = report.differences
    assert found.fields == (Changed("point.used", "rate.of[0]", 1),)


async def test_a_record_on_another_stream(logs: RecordedLogs) -> None:
    used = first(logs, "coupon", "coupon.used", b'"coupon_id":null')
    elsewhere = used._replace(originator_id="nocoupon-elsewhere")
    report = await verdict(replaced(logs, id_of(used), lambda _: elsewhere))

    found = next(one for one in report.differences if one.kind == "differs")
    assert (found.fact_id, found.fields, found.recorded) == ("nocoupon-elsewhere@1", (), ("coupon.used",))
    assert found.why == "the same fields, written in another way or on another stream"


# Records that cannot be read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"not JSON", "it cannot be decoded: "),
        (b'{"cause":"\xff"}', "it cannot be decoded: "),
        (b'{"x":' + b"[" * 100_000, "it cannot be decoded: "),
        (b'"text"', "it cannot be decoded: "),
        (b'{"type":"point.given"}', "it cannot be decoded: "),
        (b'{"type":"point.used","at":"2026-01-01T00:00:00Z"}', "it cannot be decoded: "),
        (b'{"type":"product.released"}', "it cannot be decoded: "),
    ],
)
async def test_a_record_that_cannot_be_decoded(logs: RecordedLogs, body: bytes, why: str) -> None:
    charged = first(logs, "point", "point.charged")
    report = await verdict(replaced(logs, id_of(charged), lambda record: record._replace(state=body)))

    assert places(report) == [("point", "unreadable", charged.position, id_of(charged))]
    assert str(report.differences[0].why).startswith(why)
    assert report.services["point"].unjudged > 10
    assert report.services["point"].decisions > 10, "the other accounts are judged"


async def test_a_record_that_cannot_be_folded(logs: RecordedLogs) -> None:
    charged, released = first(logs, "point", "point.charged"), first(logs, "product", "product.released")
    body = encode(replace(decode(released.state), cause=None))
    report = await verdict(replaced(logs, id_of(charged), lambda record: record._replace(state=body)))

    assert places(report) == [("point", "unreadable", charged.position, id_of(charged))]
    assert str(report.differences[0].why).startswith("it cannot be folded: AssertionError")


async def test_a_record_that_is_not_there(logs: RecordedLogs) -> None:
    charged = first(logs, "point", "point.charged")
    after = next(record for record in logs["point"] if id_of(record) == f"{charged.originator_id}@2")
    report = await verdict(replaced(logs, id_of(charged), lambda _: None))

    assert places(report) == [("point", "unreadable", after.position, id_of(after))]
    assert report.differences[0].why == f"it follows version 0 of {after.originator_id}: the history is not whole"


async def test_a_cause_that_is_not_there(logs: RecordedLogs) -> None:
    canceled = last_of_its_stream(logs, "order", "order.canceled", b'"customer-canceled"')
    answers = [
        (name, record.position)
        for name in ("product", "point", "coupon")
        for record in logs[name]
        if decode(record.state).cause == id_of(canceled)
    ]
    assert answers
    report = await verdict(replaced(logs, id_of(canceled), lambda _: None))

    missing = [one for one in report.differences if one.kind == "cause-missing"]
    assert {(one.service, one.position) for one in missing} <= set(answers)
    assert {one.service for one in missing} == {name for name, _ in answers}
    assert {one.cause for one in missing} == {id_of(canceled)}


async def test_a_service_that_the_working_tree_does_not_have(logs: RecordedLogs) -> None:
    given = Notification(1, "gift-g1", 1, "gift.given", b'{"type":"gift.given","at":"2026-01-01T00:00:00Z"}')
    report = await verdict({**logs, "gift": [given]})

    assert places(report) == [("gift", "newer", 1, "gift-g1@1")]


# What was heard and left without an answer ----------------------------------------------------------------------------


async def test_an_answer_that_was_not_recorded(logs: RecordedLogs) -> None:
    used = last_of_its_stream(logs, "coupon", "coupon.used")
    report = await verdict(replaced(logs, id_of(used), lambda _: None))

    by_kind = {one.kind: one for one in report.differences}
    assert by_kind["in-addition"].now == ("coupon.held", "coupon.used")
    assert by_kind["in-addition"].cause == decode(used.state).cause
    assert (by_kind["cause-missing"].service, by_kind["cause-missing"].cause) == ("order", id_of(used))
    assert len(by_kind) == len(report.differences) == 2


async def test_what_was_heard_late_does_not_hide_an_answer_that_was_not_recorded(logs: RecordedLogs) -> None:
    late = last_of_its_stream(logs, "coupon", "coupon.used", b'"coupon_id":null')
    used = last_of_its_stream({"coupon": logs["coupon"][20:]}, "coupon", "coupon.used", b'"points":700')
    logs["coupon"] = [record for record in logs["coupon"] if record not in (late, used)] + [late]
    report = await verdict(logs)

    assert ("coupon", "in-addition", (), ("coupon.used",)) in told(report.differences)
    assert report.total("open") == 0


async def test_what_was_said_last_may_not_have_been_heard_yet(logs: RecordedLogs) -> None:
    left = logs["coupon"].pop()
    assert decode(left.state).cause is not None
    report = await verdict(logs)

    assert report.differences == []
    assert {name: tally.open for name, tally in report.services.items() if tally.open} == {"coupon": 1}


async def test_a_step_that_has_heard_nothing_yet(logs: RecordedLogs) -> None:
    report = await verdict({"order": [first(logs, "order", "order.created.pending")], "product": logs["product"][:10]})

    assert report.differences == []
    assert report.total("open") == 1


async def test_a_decision_is_one_wherever_the_log_is_cut_into_chunks(logs: RecordedLogs) -> None:
    assert await decide_again(HistoryInMemory(logs, chunk=1), codes(), 1_000_000) == await verdict(logs)


async def test_what_clients_asked_for_is_not_heaped_up(logs: RecordedLogs) -> None:
    runs = list(Runs().take(logs["order"]))

    assert all(len(run.records) == 1 for run in runs if run.cause is None)


# Counting -------------------------------------------------------------------------------------------------------------


async def test_few_are_kept_and_all_are_counted(logs: RecordedLogs) -> None:
    changed = {name: [one._replace(state=b"{}") for one in log] for name, log in logs.items()}
    report = await decide_again(HistoryInMemory(changed), codes(), 3)

    assert len(report.differences) == 3
    assert report.total("differences") == sum(len(log) for log in logs.values())


# From a file ----------------------------------------------------------------------------------------------------------


async def test_lines_may_be_in_any_order_and_stand_there_again() -> None:
    lines = FILE.read_bytes().splitlines()
    random.Random(5).shuffle(lines)
    shuffled = await logs_of(read([*lines, b"\n", *lines[:50]]))

    assert shuffled == await logs_of(recorded())
    assert told((await verdict(shuffled)).differences) == set()


GOOD = (
    b'{"sequence":1,"time":"2026-01-31T00:00:00.123456789Z","subject":"order.confirmed.o1","headers":{"Nats-Msg-Id":'
    b'"order-o1@2","Fact-Stream":"order-o1","Fact-Version":"2","Fact-Position":"17"},'
    b'"body":{"type": "order.confirmed", "order_id": "o1"}}'
)


async def test_a_body_stays_as_it_is() -> None:
    (record,) = (await logs_of(read([GOOD])))["order"]

    assert record == Notification(
        17, "order-o1", 2, "order.confirmed", b'{"type": "order.confirmed", "order_id": "o1"}'
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "line 2: Input data was truncated"),
        (b"[]", "line 2: Expected `object`, got `array`"),
        (GOOD.replace(b'"body":{"type"', b'"body":{'), "line 2: "),
        (GOOD.replace(b'"o1"}}', b'"o1", "a": 1}}'), "line 2: an earlier line has another record, order-o1@2"),
    ],
)
def test_a_line_that_is_no_message_is_named(line: bytes, why: str) -> None:
    with pytest.raises(BadHistory) as error:
        read([GOOD, line])

    assert str(error.value).startswith(why)


@pytest.mark.parametrize(
    "line",
    [
        GOOD.replace(b"Fact-Position", b"Position"),
        GOOD.replace(b'"17"', b'"next"'),
        GOOD.replace(b'"17"', b'"%s"' % (b"9" * 5_000)),
        GOOD.replace(b'"Fact-Version":"2"', b'"Fact-Version":"3"'),
        GOOD.replace(b"order.confirmed.o1", b"o1"),
        GOOD.replace(b'"o1"}}', b'"o2"}}'),
        GOOD.replace(b'"body":{"type": "order.confirmed", "order_id": "o1"}', b'"raw":"/w=="'),
    ],
)
async def test_a_foreign_message_is_passed_over_and_counted(line: bytes) -> None:
    history = read([GOOD, line])

    assert history.foreign == 1
    assert [record.position for record in (await logs_of(history))["order"]] == [17]


def test_an_empty_file_is_no_history() -> None:
    with pytest.raises(BadHistory):
        read([b"\n"])
