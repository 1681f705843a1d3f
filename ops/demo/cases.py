"""The orders of `just demo`: what each asks for, and what must follow from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

USER: Final = "u1"

CausedFact = tuple[str, str | None]
"""The name of a fact, and the name of the fact that caused it (None: the customer's request)."""

ACCEPTED: Final[CausedFact] = ("order.created.pending", None)
HELD: Final[CausedFact] = ("product.stock.held", "order.created.pending")
RESERVED: Final[CausedFact] = ("product.reserved", "order.created.pending")
USED: Final[Sequence[CausedFact]] = (("point.debited", "product.reserved"), ("point.used", "product.reserved"))


@dataclass(frozen=True)
class Case:
    """An order to place, and what must follow from it.

    `facts` must be published as often as they are listed, with these causes, and no others. `lines`: product → pieces.
    `amounts`: fields of the answer and their values. `refusal`: the problem's type without `/problems/`; None: the
    order must be confirmed. `changes`: the balances that change, by their names in START, and their new values. `title`
    and `asks` are printed.
    """

    title: str
    asks: str
    lines: Mapping[str, int]
    points: int
    coupon: str
    facts: Sequence[CausedFact]
    amounts: Mapping[str, int] = field(default_factory=dict)
    refusal: str | None = None
    changes: Mapping[str, int | str] = field(default_factory=dict)


START: Final[Mapping[str, int | str]] = {
    "mugs in stock": 10,
    "lamps in stock": 1,
    f"points of {USER}": 5_000,
    "coupon c1": "free",
    "coupon c2": "free",
}

CASES: Final = (
    Case(
        "Everything is there",
        "2 mugs and the last lamp, with 500 points and coupon c1",
        lines={"mug": 2, "lamp": 1},
        points=500,
        coupon="c1",
        facts=[
            ACCEPTED,
            HELD,
            HELD,
            RESERVED,
            *USED,
            ("coupon.held", "point.used"),
            ("coupon.used", "point.used"),
            ("order.confirmed", "coupon.used"),
        ],
        amounts={"total": 54_000, "points": 500, "discount": 3_000, "amount_due": 50_500},
        changes={"mugs in stock": 8, "lamps in stock": 0, f"points of {USER}": 4_500, "coupon c1": "order 1"},
    ),
    Case(
        "Product refuses",
        "a mug and a lamp: there is no lamp left, so the mug is not taken either",
        lines={"mug": 1, "lamp": 1},
        points=500,
        coupon="c2",
        facts=[
            ACCEPTED,
            ("product.reserve.failed", "order.created.pending"),
            ("order.canceled", "product.reserve.failed"),
        ],
        refusal="product-out-of-stock",
    ),
    Case(
        "Point refuses",
        "a mug with 9,000 points: there are fewer, so the mug goes back",
        lines={"mug": 1},
        points=9_000,
        coupon="c2",
        facts=[
            ACCEPTED,
            HELD,
            RESERVED,
            ("point.use.failed", "product.reserved"),
            ("product.stock.returned", "point.use.failed"),
            ("product.released", "point.use.failed"),
            ("order.canceled", "point.use.failed"),
        ],
        refusal="points-insufficient",
    ),
    Case(
        "Coupon refuses",
        "a mug with 500 points and coupon c1, which order 1 has used: points and mug go back",
        lines={"mug": 1},
        points=500,
        coupon="c1",
        facts=[
            ACCEPTED,
            HELD,
            RESERVED,
            *USED,
            ("coupon.use.failed", "point.used"),
            ("point.credited", "coupon.use.failed"),
            ("point.refunded", "coupon.use.failed"),
            ("product.stock.returned", "coupon.use.failed"),
            ("product.released", "coupon.use.failed"),
            ("order.canceled", "coupon.use.failed"),
        ],
        refusal="coupon-already-used",
    ),
)
