"""What the services answer, or should answer by the facts, as values that can be compared."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class ProductSeen(NamedTuple):
    price: int
    available: int


class CouponSeen(NamedTuple):
    """A coupon as coupon_svc answers about it, or as it should answer by the facts.

    `order_id` is the order that uses the coupon; null: none. The discount is in won.
    """

    user_id: str
    discount: int
    order_id: str | None


class OrderSeen(NamedTuple):
    """An order as order_svc answers about it, or as it should answer by the facts. `reason`: of the cancel, else null.

    The amounts (won) are those of the order's first end; null where there is no end, or it does not have them.
    """

    status: str
    reason: str | None
    total: int | None
    discount: int | None
    amount_due: int | None


class Live(NamedTuple):
    """Answers by id of the product, customer (`balances`: points), coupon or order.

    They are what the services answer, or what they should answer by the facts. None: there is no such product or
    coupon. An order that the service does not know has the status `unknown`. What was not asked for, or cannot be
    compared, is missing.
    """

    products: Mapping[str, ProductSeen | None]
    balances: Mapping[str, int]
    coupons: Mapping[str, CouponSeen | None]
    orders: Mapping[str, OrderSeen]


def differences(expected: Live, found: Live) -> Iterator[tuple[str, str]]:
    """Yield (where, what) in words for each answer that `found` lacks, has in addition, or has otherwise than expected.

    A customer without an account has 0 points.
    """
    expected, found = _with_points(expected), _with_points(found)
    for kind, wanted, has in zip(("product", "account", "coupon", "order"), expected, found, strict=True):
        yield from _differences(kind, wanted, has)


def _with_points(live: Live) -> Live:
    return live._replace(balances={user: balance for user, balance in live.balances.items() if balance})


def _differences(kind: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, wanted in expected.items():
        if key not in found:
            yield f"{kind} {key}", f"is missing, should be {wanted}"
        elif found[key] != wanted:
            yield f"{kind} {key}", f"is {found[key]}, should be {wanted}"
    for key in found.keys() - expected.keys():
        yield f"{kind} {key}", f"is {found[key]}, but no fact says so"
