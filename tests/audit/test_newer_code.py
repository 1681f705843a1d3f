"""Facts of newer code are counted, and no finding; nor is what they may explain. All else is judged."""

from pathlib import Path

import msgspec
import pytest

from contracts.newer import words_of
from contracts.wire import FACTS, MSG_ID, POSITION, STREAM, VERSION, encode, fact_id
from infra.broker.client import VERSION_LINE
from ops.audit import disk_memory
from ops.audit.foreign_filter import ForeignFilter
from ops.invariants import Checker, Finding
from ops.invariants.findings import MOST_OF_A_KIND
from ops.invariants.unjudged import Unjudged
from ops.reading import Read
from tests.audit.paper import History, honest_history

HONEST = honest_history()


def judged(history: History) -> tuple[list[Finding], Unjudged]:
    checker = Checker(quiet=True)
    for its_id in history.recorded:
        for service, log in history.logs.items():
            for entry in log:
                if fact_id(entry.stream, entry.version) == its_id:
                    checker.log(service, *entry)
    for message in history.stream:
        checker.message(*message)
    return checker.finish(), checker.unjudged


def changed(history: History, its_id: str, old: bytes, new: bytes) -> History:
    """This history, with these bytes of a fact changed in both copies."""
    other = history.copy()
    other.stream = [
        one._replace(body=one.body.replace(old, new)) if one.fact_id == its_id else one for one in other.stream
    ]
    for name, log in other.logs.items():
        other.logs[name] = [
            one._replace(body=one.body.replace(old, new)) if fact_id(one.stream, one.version) == its_id else one
            for one in log
        ]
    return other


def type_of(its_id: str) -> str:
    body = next(message.body for message in HONEST.stream if message.fact_id == its_id)
    return str(msgspec.json.decode(body)["type"])


@pytest.mark.parametrize("its_id", HONEST.recorded)
def test_a_fact_of_an_unknown_type_leads_to_no_finding(its_id: str) -> None:
    name = type_of(its_id).encode()
    findings, unjudged = judged(changed(HONEST, its_id, b'"type":"%b"' % name, b'"type":"%b.anew"' % name))

    assert findings == []
    assert unjudged.facts == 1
    assert its_id in unjudged.first[0].where
    assert f"its type '{name.decode()}.anew' is unknown here" in unjudged.first[0].what


WITH_REASONS = [its_id for its_id in HONEST.recorded if words_of(FACTS[type_of(its_id)])]


@pytest.mark.parametrize("its_id", WITH_REASONS)
def test_an_unknown_reason_leads_to_no_finding_and_the_sums_are_judged(its_id: str) -> None:
    reason = str(HONEST.fact(its_id).reason).encode()
    history = changed(HONEST, its_id, b'"reason":"%b"' % reason, b'"reason":"anew"')
    findings, unjudged = judged(history)

    assert (findings, unjudged.facts) == ([], 1)
    assert "its reason 'anew' is unknown here" in unjudged.first[0].what
    history.rewrite(HONEST.id("product.stock.held", "plain"), quantity=1)
    assert "product tea" in [finding.where for finding in judged(history)[0]]


NEWER = [
    pytest.param(b'"type":"order.canceled"', b'"type":"order.parked"', id="of an unknown type"),
    pytest.param(b'"customer-canceled"', b'"anew"', id="with an unknown reason"),
]


def naming(cause: bytes, old: bytes, new: bytes) -> History:
    """A history with a cancel of newer code that names this cause."""
    its_id = HONEST.id("order.canceled", "returned")
    history = changed(HONEST, its_id, old, new)
    return changed(history, its_id, b'"cause":null', b'"cause":"%b"' % cause)


@pytest.mark.parametrize(("old", "new"), NEWER)
def test_a_cause_that_is_missing_is_a_finding(old: bytes, new: bytes) -> None:
    findings, _ = judged(naming(b"order-nowhere@1", old, new))

    assert [(finding.invariant, finding.what) for finding in findings] == [
        (7, "names a cause that does not exist: order-nowhere@1")
    ]


@pytest.mark.parametrize(("old", "new"), NEWER)
def test_a_cause_of_a_service_that_this_version_does_not_have_is_no_finding(old: bytes, new: bytes) -> None:
    findings, _ = judged(naming(b"parcel-o1@1", old, new))

    assert findings == []


def test_a_cause_that_a_known_fact_names_as_well_is_judged() -> None:
    history = naming(b"parcel-o1@1", b'"type":"order.canceled"', b'"type":"order.parked"')
    history.rewrite(HONEST.id("product.released", "returned"), cause="parcel-o1@1")

    findings, _ = judged(history)

    assert [(finding.invariant, finding.what) for finding in findings] == [
        (7, "names a cause that does not exist: parcel-o1@1")
    ]


def test_the_cut_has_the_cause_of_a_fact_of_an_unknown_type() -> None:
    checker = Checker(quiet=False)
    body = b'{"type":"order.parked","at":"2026-03-02T09:00:00Z","cause":"reservation-o1@1","order_id":"o1"}'
    checker.log("order", 1, "order-o1", 1, body)

    assert [*checker.awaited] == ["reservation-o1@1"]


def test_the_other_orders_are_judged() -> None:
    its_id = HONEST.id("product.reserved", "confirmed")
    history = changed(HONEST, its_id, b'"product.reserved"', b'"product.partly.reserved"')
    history.erase(HONEST.id("order.canceled", "no-product"))

    findings, unjudged = judged(history)
    assert unjudged.facts == 1
    assert {finding.where for finding in findings} == {"order no-product"}


def test_the_other_orders_without_a_coupon_are_judged() -> None:
    its_id, wrong = HONEST.id("product.reserved", "plain"), HONEST.id("product.reserved", "stuck")
    history = changed(HONEST, its_id, b'"product.reserved"', b'"product.partly.reserved"')
    history.rewrite(wrong, total=1)

    findings, unjudged = judged(history)
    assert unjudged.facts == 1
    assert any(finding.where.endswith(wrong) and "not the sum" in finding.what for finding in findings)


@pytest.mark.parametrize("explained", [3 * MOST_OF_A_KIND, 2 * MOST_OF_A_KIND + 1, MOST_OF_A_KIND + 1, 1, 0])
def test_each_finding_is_judged_again_when_newer_code_explains_others(explained: int, tmp_path: Path) -> None:
    made = 3 * MOST_OF_A_KIND
    confirmed = HONEST.fact(HONEST.id("order.confirmed", "plain"))
    with disk_memory.working_copy(tmp_path / "memory", of=False, generation=2) as memory:
        checker = Checker(quiet=True, memory=memory)
        for number in range(made):  # each confirms an order that nobody has accepted
            fact = msgspec.structs.replace(confirmed, order_id=f"o{number}")
            checker.log("order", number + 1, f"order-o{number}", 1, encode(fact))
        for number in range(explained):
            body = b'{"type":"order.anew","at":"2026-03-02T09:00:00Z","cause":null,"order_id":"o%d"}' % number
            checker.log("order", made + number + 1, f"order-o{number}", 2, body)
        ends = [(finding.where, finding.what) for finding in checker.finish() if finding.invariant == 4]

    assert checker.unjudged.facts == explained
    left = made - explained
    assert (
        ends[:MOST_OF_A_KIND]
        == [
            (f"order log, position {number + 1}, order-o{number}@1", "confirms an order that is not accepted")
            for number in range(explained, made)
        ][:MOST_OF_A_KIND]
    )
    assert ends[MOST_OF_A_KIND:] == (
        [("everywhere", f"and {left - MOST_OF_A_KIND} more findings of this kind")] if left > MOST_OF_A_KIND else []
    )


def test_what_one_copy_lacks_is_a_finding_whatever_it_is() -> None:
    its_id = HONEST.id("order.canceled", "returned")
    history = changed(HONEST, its_id, b'"customer-canceled"', b'"anew"')
    history.unpublish(its_id)

    findings, _ = judged(history)
    assert [(finding.invariant, finding.what) for finding in findings] == [(8, "is missing from the stream")]


def test_a_message_of_a_service_that_this_version_does_not_have_is_counted(tmp_path: Path) -> None:
    headers = {MSG_ID: "parcel-o1@1", STREAM: "parcel-o1", VERSION: "1", POSITION: "1"}
    head = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    body = b'{"type":"shipping.sent","at":"2026-03-01T09:30:00Z","order_id":"o1"}'
    message = Read(7, "shipping.sent.o1", "parcel-o1@1", body, f"{VERSION_LINE}{head}\r\n\r\n".encode(), 1)
    messages, unjudged = ForeignFilter({"DATA_DIR": str(tmp_path)}, ()), Unjudged()

    assert messages.services([message], unjudged) == []
    assert messages.finish() == []
    assert unjudged.facts == 1
    assert unjudged.first[0].where == "stream, sequence 7, parcel-o1@1 ('shipping.sent.o1')"
    assert unjudged.first[0].what == "is of newer code: this version has no shipping_svc"
