"""Steps are put in order by the facts they hear, and a declaration that cannot be meant is refused at import."""

import pytest

from contracts import OrderCanceled, OrderConfirmed, SagaFact
from contracts.coupon import STEP as COUPON
from contracts.point import STEP as POINT
from contracts.product import STEP as PRODUCT
from contracts.step import Step, in_order
from contracts.wire import COMPENSATIONS, FACTS, NAMES, SERVICES, STEPS, said_by


class Packed(SagaFact, frozen=True, kw_only=True, tag="gift.packed"):
    """Done."""


class Unpacked(SagaFact, frozen=True, kw_only=True, tag="gift.unpacked"):
    """Undone."""


class Voided(SagaFact, frozen=True, kw_only=True, tag="gift.voided"):
    """Fenced."""


GIFT = Step(OrderConfirmed, Packed, Unpacked, Voided)


def test_the_order_of_the_saga_follows_from_what_each_step_hears() -> None:
    steps = in_order([COUPON, PRODUCT, POINT])

    assert (steps.awaited, steps.following) == ((PRODUCT, POINT, COUPON), ())
    assert [step for step in STEPS.awaited if step in steps.awaited] == list(steps.awaited)


def test_a_step_that_hears_the_confirmation_follows_it() -> None:
    steps = in_order([GIFT, COUPON, PRODUCT, POINT])

    assert (steps.awaited, steps.following) == ((PRODUCT, POINT, COUPON), (GIFT,))


def test_services_and_facts_are_in_the_order_of_the_saga() -> None:
    ours = ["order", "product", "point", "coupon"]
    assert [name for name in SERVICES if name in ours] == ours
    assert list(dict.fromkeys(map(said_by, FACTS))) == list(SERVICES)


def test_compensations_are_what_the_steps_undo_with() -> None:
    ours = {
        *("product.stock.returned", "product.released"),
        *("point.credited", "point.refunded", "coupon.returned", "coupon.restored"),
    }
    others = {NAMES[step.undone] for step in STEPS.awaited + STEPS.following if step not in (PRODUCT, POINT, COUPON)}
    assert ours | others <= COMPENSATIONS
    assert {name for name in COMPENSATIONS if said_by(name) in ("product", "point", "coupon")} == ours


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (GIFT._replace(hears=OrderCanceled), "the step of gift_svc hears order.canceled: no order gets there"),
        (GIFT._replace(refused=Voided), "the step of gift_svc could refuse an order that is confirmed"),
        (GIFT._replace(undone=OrderCanceled), "the step of gift_svc has facts of another service"),
    ],
)
def test_a_step_that_cannot_be_meant_is_refused(step: Step, why: str) -> None:
    with pytest.raises(TypeError, match=f"^{why}$"):
        in_order([PRODUCT, POINT, COUPON, step])


def test_a_service_takes_one_step() -> None:
    with pytest.raises(TypeError, match="gift_svc declares more than one step"):
        in_order([GIFT, GIFT])


def test_a_step_that_leads_back_to_itself_is_refused() -> None:
    with pytest.raises(TypeError):
        in_order([PRODUCT, POINT._replace(done=PRODUCT.done), COUPON])
