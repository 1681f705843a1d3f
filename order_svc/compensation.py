"""Whether what a canceled order had taken is back: canceled does not yet mean compensated."""

from collections.abc import Collection
from typing import NamedTuple

from contracts import WITHDRAWALS, Reason


class Step(NamedTuple):
    """One step of the saga, by the facts that close it for a canceled order."""

    refused: str
    undone: str
    fenced: str


STEPS = (
    Step("product.reserve.failed", "product.released", "product.reserve.voided"),
    Step("point.use.failed", "point.refunded", "point.use.voided"),
    Step("coupon.use.failed", "coupon.restored", "coupon.use.voided"),
)
"""In the order of the saga."""


def compensated(reason: Reason, facts: Collection[str]) -> bool:
    """Whether a canceled order, of which these facts (names) have been heard, is compensated.

    Refused by a step: every step before that one is undone or fenced. Withdrawn by the customer or the deadline: each
    step is undone or fenced, or had refused.
    """
    for step in STEPS:
        if step.refused in facts:
            if reason not in WITHDRAWALS:
                return True
        elif step.undone not in facts and step.fenced not in facts:
            return False
    return reason in WITHDRAWALS
