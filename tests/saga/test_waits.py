"""Which service an order waits for, since when, and which services answer nothing: from the published facts."""

from datetime import UTC, datetime, timedelta

from contracts.order import OrderCreatedPending
from contracts.point import PointRefunded, PointUsed, PointUseFailed, PointUseVoided
from contracts.product import ProductReleased, ProductReserved, ProductReserveVoided
from contracts.step import Step, Steps
from order_svc.waits import OWN, PublishedAt, Unanswered, names, spread, unanswered, waits_for

START = datetime(2026, 3, 2, 12, 3, 5, tzinfo=UTC)
LATER = START + timedelta(hours=1)


def published(*facts: str, first: int = 1) -> dict[str, PublishedAt]:
    """These facts, one after another in the stream, a second apart."""
    return {
        name: PublishedAt(sequence, START + timedelta(seconds=sequence - 1))
        for sequence, name in enumerate(facts, first)
    }


def test_an_order_waits_for_the_step_that_heard_the_last_fact() -> None:
    created, reserved, used = "order.created.pending", "product.reserved", "point.used"

    assert waits_for({}) == {}, "not published: nobody but the relay can be waited for"
    assert waits_for(published(created)) == {"product": PublishedAt(1, START)}
    assert waits_for(published(created, reserved)) == {"point": PublishedAt(2, START + timedelta(seconds=1))}
    assert waits_for(published(created, reserved, used)).keys() == {"coupon"}
    assert waits_for(published(created, reserved, used, "coupon.used")).keys() == {OWN}
    assert waits_for(published(created, reserved, "point.use.failed")).keys() == {OWN}
    assert waits_for(published(created, reserved, used, "coupon.used", "order.confirmed")) == {}
    assert waits_for(published(created, "order.canceled")) == {}


def test_a_service_is_named_when_it_answers_none_since_the_first_that_waits() -> None:
    facts = {
        "ended": published("order.created.pending", "product.reserved", "point.used", first=1),
        "o1": published("order.created.pending", "product.reserved", first=4),
        "o2": published("order.created.pending", "product.reserved", first=6),
        "o3": published("order.created.pending", first=8),
    }

    assert unanswered(facts, {"o1", "o2", "o3"}, LATER) == [
        Unanswered("point", START + timedelta(seconds=4), 2),
        Unanswered("product", START + timedelta(seconds=7), 1),
    ]
    assert spread(facts, {"o1", "o2", "o3"}) == {"point": 2, "product": 1}


def test_a_service_that_answers_a_later_order_is_slow_or_has_a_dead_letter_but_is_not_named() -> None:
    facts = {
        "stuck": published("order.created.pending", "product.reserved", first=1),
        "ended": published("order.created.pending", "product.reserved", "point.used", "coupon.used", first=3),
    }

    assert unanswered(facts, {"stuck"}, LATER) == []
    assert spread(facts, {"stuck"}) == {"point": 1}


def test_a_late_answer_does_not_hide_that_a_service_has_been_silent_since() -> None:
    facts = {
        "skipped": published("order.created.pending", "product.reserved", first=1),
        "o1": published("order.created.pending", "product.reserved", first=3),
        "late": published("order.created.pending", "product.reserved", "point.used", first=5),
        "o2": published("order.created.pending", "product.reserved", first=8),
        "o3": published("order.created.pending", "product.reserved", first=10),
    }

    found = unanswered(facts, {"skipped", "o1", "o2", "o3"}, LATER)

    assert found == [Unanswered("point", START + timedelta(seconds=8), 4)]
    assert unanswered(facts, {"skipped", "o1", "o2", "o3"}, START + timedelta(seconds=7)) == []


def test_a_service_has_a_moment_to_answer() -> None:
    facts = {"o1": published("order.created.pending")}

    assert unanswered(facts, {"o1"}, START - timedelta(microseconds=1)) == []
    assert unanswered(facts, {"o1"}, START) == [Unanswered("product", START, 1)]


def test_the_steps_come_from_their_declarations_so_any_service_is_named() -> None:
    reserve = Step(OrderCreatedPending, ProductReserved, ProductReleased, ProductReserveVoided)
    beside = Step(OrderCreatedPending, PointUsed, PointRefunded, PointUseVoided, PointUseFailed)
    steps = Steps((reserve, beside), ())

    assert set(names(steps)) >= {"order.created.pending", "point.use.failed", "product.reserved", "order.confirmed"}
    assert waits_for(published("order.created.pending"), steps).keys() == {"product", "point"}
    assert waits_for(published("order.created.pending", "product.reserved"), steps).keys() == {"point"}
    assert [
        found.service
        for found in unanswered({"o": published("order.created.pending", "point.used")}, {"o"}, LATER, steps)
    ] == ["product"]


def test_the_sentence_names_service_time_and_orders() -> None:
    assert Unanswered("gift", START, 512).text(LATER) == (
        "gift_svc has not answered since 12:03:05 UTC; 512 orders wait for it"
    )
    assert Unanswered("gift", START, 1).text(LATER + timedelta(days=1)) == (
        "gift_svc has not answered since 2026-03-02 12:03:05 UTC; 1 order waits for it"
    )
