"""Who hears what, and what is done about it: the tables are the choreography."""

import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest

import coupon_svc
import order_svc
import point_svc
import product_svc
from contracts import Fact
from contracts.coupon import CouponSays
from contracts.order import OrderSays
from contracts.point import PointSays
from contracts.product import ProductSays
from contracts.wire import NAMES, said_by
from coupon_svc.domain.use import Restore
from coupon_svc.domain.use import Use as UseCoupon
from coupon_svc.reactions import REACTIONS as COUPON_REACTIONS
from infra.core.writer import Reactions
from order_svc.domain import Confirm, Refuse
from order_svc.reactions import REACTIONS as ORDER_REACTIONS
from point_svc.domain.use import Refund
from point_svc.domain.use import Use as UsePoints
from point_svc.reactions import REACTIONS as POINT_REACTIONS
from product_svc.domain.reservation import Release, Reserve
from product_svc.reactions import REACTIONS as PRODUCT_REACTIONS
from tests.examples import (
    CAUSE,
    NOW,
    coupon_used,
    order_canceled,
    order_created,
    points_used,
    product_reserved,
    reserve_failed,
    use_of_coupon_failed,
    use_of_points_failed,
)

ONE_OF_EACH: Mapping[type[Fact], Fact] = {
    type(fact): fact
    for fact in (
        order_created(),
        order_canceled("customer-canceled"),
        product_reserved(),
        reserve_failed("product-unknown"),
        points_used(),
        use_of_points_failed("points-insufficient"),
        coupon_used(),
        use_of_coupon_failed("coupon-unknown"),
    )
}


def by_name(reactions: Reactions) -> Mapping[str, object]:
    return {NAMES[fact]: command for fact, command in reactions.items()}


def test_product_svc_reserves_orders_and_releases_what_was_refused_later_or_canceled() -> None:
    assert by_name(PRODUCT_REACTIONS) == {
        "order.created.pending": Reserve,
        "point.use.failed": Release,
        "coupon.use.failed": Release,
        "order.canceled": Release,
    }


def test_point_svc_uses_points_of_reserved_orders_and_refunds_what_was_refused_later_or_canceled() -> None:
    assert by_name(POINT_REACTIONS) == {
        "product.reserved": UsePoints,
        "coupon.use.failed": Refund,
        "order.canceled": Refund,
    }


def test_coupon_svc_uses_coupons_of_orders_that_have_their_points_and_restores_those_of_canceled_ones() -> None:
    assert by_name(COUPON_REACTIONS) == {"point.used": UseCoupon, "order.canceled": Restore}


def test_order_svc_confirms_after_the_last_step_and_cancels_on_any_refusal() -> None:
    assert by_name(ORDER_REACTIONS) == {
        "coupon.used": Confirm,
        "product.reserve.failed": Refuse,
        "point.use.failed": Refuse,
        "coupon.use.failed": Refuse,
    }


@pytest.mark.parametrize(
    ("service", "reactions"),
    [
        ("order", ORDER_REACTIONS),
        ("product", PRODUCT_REACTIONS),
        ("point", POINT_REACTIONS),
        ("coupon", COUPON_REACTIONS),
    ],
)
def test_nobody_hears_himself(service: str, reactions: Reactions) -> None:
    assert service not in {said_by(name) for name in by_name(reactions)}


def test_a_command_carries_the_fact_the_instant_and_the_facts_id() -> None:
    tables: list[Reactions] = [ORDER_REACTIONS, PRODUCT_REACTIONS, POINT_REACTIONS, COUPON_REACTIONS]
    for reactions in tables:
        for heard, react in reactions.items():
            fact = ONE_OF_EACH[heard]
            command: Any = react(fact, NOW, CAUSE)
            assert (command.fact, command.at, command.cause) == (fact, NOW, CAUSE)


@pytest.mark.parametrize(
    ("service", "says", "reactions"),
    [
        (order_svc, OrderSays, ORDER_REACTIONS),
        (product_svc, ProductSays, PRODUCT_REACTIONS),
        (point_svc, PointSays, POINT_REACTIONS),
        (coupon_svc, CouponSays, COUPON_REACTIONS),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_services_story_names_what_it_hears_and_says(
    service: ModuleType, says: object, reactions: Reactions
) -> None:
    story = re.fullmatch(r".*^hears (?P<hears>.*)^says (?P<says>.*)", service.__doc__ or "", re.DOTALL | re.MULTILINE)
    assert story is not None
    assert set(re.findall(r"[a-z.]*\.[a-z]+", story["hears"])) == set(by_name(reactions))
    assert set(re.findall(r"[a-z.]*\.[a-z]+", story["says"])) == {NAMES[fact] for fact in says.__args__}  # type: ignore[attr-defined]
