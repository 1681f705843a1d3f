"""What commands share: the start of a fact, typed; and the form in which each aggregate is written."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contracts import Fact, OrderConfirmed, PointCharged, PointUsed, PricedFact, SagaFact
from contracts.command import AboutOrder, PricedOrder, Stamp
from contracts.coupon import coupon_stream
from coupon_svc.domain.use import Use as UseCoupon
from order_svc.domain import Confirm, Refuse
from point_svc.domain.use import Use
from tests.examples import (
    CAUSE,
    COUPON,
    CUSTOMER,
    NOW,
    ORDER,
    ORDER_ID,
    PLAIN,
    coupon_used,
    points_used,
    product_reserved,
    use_of_points_failed,
)

ROOT = Path(__file__).resolve().parents[2]
AGGREGATES = [
    path
    for pattern in ("*_svc/domain.py", "*_svc/domain/*.py")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "__init__.py"
]
an_aggregate = pytest.mark.parametrize("path", AGGREGATES, ids=lambda path: str(path.relative_to(ROOT)))
DECIDING = [path for path in AGGREGATES if "\ndef decide(" in path.read_text(encoding="utf-8")]
"""Those with commands; over the states of the others, these decide."""
that_decides = pytest.mark.parametrize("path", DECIDING, ids=lambda path: str(path.relative_to(ROOT)))

USE = Use(product_reserved(), NOW, CAUSE)
CONFIRM = Confirm(coupon_used(), NOW, CAUSE)


# The start of a fact --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "fact"),
    [(Stamp, Fact), (AboutOrder, SagaFact), (PricedOrder, PricedFact)],
    ids=lambda kind: kind.__name__,
)
def test_a_start_has_the_fields_of_its_kind_of_fact(start: type, fact: type[Fact]) -> None:
    assert tuple(start.__annotations__) == fact.__struct_fields__


def test_a_command_gives_the_start_of_the_facts_it_says() -> None:
    heard = USE.fact
    stamp = {"at": NOW, "cause": CAUSE}
    about_order = {**stamp, "order_id": ORDER_ID, "order": ORDER}

    assert USE.stamp() == stamp
    assert USE.about_order() == about_order
    assert USE.priced_order() == {**about_order, "unit_prices": heard.unit_prices, "total": heard.total}
    assert (USE.order_id, USE.order) == (ORDER_ID, ORDER)


def test_a_use_asks_for_no_account_and_no_coupon_that_the_order_does_not_use() -> None:
    assert USE.streams == (f"pointuse-{ORDER_ID}", f"account-{CUSTOMER}")
    assert Use(product_reserved(PLAIN), NOW, CAUSE).streams == (f"pointuse-{ORDER_ID}",)
    assert UseCoupon(points_used(), NOW, CAUSE).streams == (coupon_stream(COUPON, ORDER_ID), f"coupon-{COUPON}")
    assert UseCoupon(points_used(PLAIN), NOW, CAUSE).streams == (coupon_stream(None, ORDER_ID),)


def test_a_fact_still_refuses_a_field_that_is_missing_or_not_its_own() -> None:
    with pytest.raises(TypeError, match="Missing required argument 'points'"):
        PointUsed(**USE.priced_order())  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Missing required argument 'unit_prices'"):
        PointUsed(**USE.about_order(), points=500)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Unexpected keyword argument 'discount'"):
        PointUsed(**USE.priced_order(), points=500, discount=300)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Unexpected keyword argument 'order"):
        PointCharged(**USE.about_order(), user_id="ann", amount=1, idempotency_key="first")  # type: ignore[misc]


if TYPE_CHECKING:
    # mypy reports each of these. If it ever does not, the comment is unused, and that is an error, too.
    PointUsed(**USE.priced_order(), points="500")  # type: ignore[arg-type]
    OrderConfirmed(**CONFIRM.priced_order(), points=500, discount=300)  # type: ignore[call-arg]
    Refuse(use_of_points_failed("points-insufficient"), NOW, CAUSE).priced_order()  # type: ignore[misc]
    Use(coupon_used(), NOW, CAUSE)  # type: ignore[arg-type]


# The form of an aggregate ---------------------------------------------------------------------------------------------


@an_aggregate
def test_one_short_file_tells_an_aggregate_from_its_events_to_its_fold(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 150
    parts = ["Events", "Commands", "State", "Decide", "Evolve"] if path in DECIDING else ["Events", "State", "Evolve"]
    assert re.findall(r"^# (\w+) -+$", text, re.MULTILINE) == parts
    assert re.search(r"^# Events -+\n# Stored and published under these names: .*\nEvent = ", text, re.MULTILINE)


@an_aggregate
def test_decide_and_evolve_leave_no_case_out(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    functions = [("decide", "command")] if path in DECIDING else []
    for function, subject in (*functions, ("evolve", "event")):
        body = re.search(rf"^def {function}\(.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        assert body is not None
        assert body[0].rstrip().endswith(f"        case _:\n            assert_never({subject})")


@that_decides
def test_an_empty_answer_has_its_reason_on_the_same_line(path: Path) -> None:
    empty = [line for line in path.read_text(encoding="utf-8").splitlines() if "return ()" in line]

    assert empty
    assert [line for line in empty if not re.search(r"return \(\)  # \w", line)] == []
