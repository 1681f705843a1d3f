"""The orders of a run, the goods that the systems need beforehand, and the totals expected afterwards."""

import functools
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from order_svc.ids import new_key

PRICE: Final = 1_000  # won
POINTS: Final = 10
DISCOUNT: Final = 300  # won
PLENTY: Final = 10**9
EXPIRES: Final = "2099-01-01T00:00:00Z"

KEYS: Final = "BENCH_KEYS"
"""Names the folder with the development key of a system that asks for tokens; unset: it does not."""
SCOPES: Final = ("products:write", "points:charge", "coupons:issue", "ops:read")
TOKEN_S: Final = 3_600


@functools.cache
def authorization(user: str, scopes: tuple[str, ...]) -> str:
    """The header Authorization of this user, with a token of the key in the folder that KEYS names."""
    from infra.auth.development import mint  # noqa: PLC0415 - an extra
    from ops.token import AUDIENCE, ISSUER  # noqa: PLC0415

    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "scope": " ".join(scopes)}
    return f"Bearer {mint(_key(os.environ[KEYS]), claims, TOKEN_S)}"


@functools.cache
def _key(folder: str) -> Any:
    from infra.auth.development import development_key  # noqa: PLC0415 - an extra

    return development_key(Path(folder))


End = Literal["confirmed", "coupon-unknown", "points-insufficient", "product-out-of-stock"]


class Request(NamedTuple):
    """An HTTP request to one of the four services; `body` None: a GET."""

    service: str
    path: str
    body: Any = None
    user: str = ""
    key: str = ""

    def encode(self) -> bytes:
        head = f"{'GET' if self.body is None else 'POST'} {self.path} HTTP/1.1\r\nHost: localhost\r\n"
        if KEYS in os.environ:
            head += f"Authorization: {authorization(self.user or 'operator', () if self.user else SCOPES)}\r\n"
        elif self.user:
            head += f"X-User-Id: {self.user}\r\n"
        if self.key:
            head += f"Idempotency-Key: {self.key}\r\n"
        if self.body is None:
            return f"{head}\r\n".encode()
        body = msgspec.json.encode(self.body)
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Ordered(NamedTuple):
    """One order, and how it must end."""

    user: str
    product: str
    quantity: int
    coupon: str
    end: End


class Total(NamedTuple):
    """A GET, a field of its answer, and the field's expected value; for a coupon only whether an order uses it."""

    request: Request
    field: str
    value: int | bool


class Wares(Struct, frozen=True):
    """`orders` of one or two pieces of one of the products, each with some points and a coupon of its own.

    Each has an idempotency key as docs/http.md advises it. All other names begin with `prefix`, so that a system with a
    history has none of them yet. With `refusals` one order in ten has a coupon that does not exist, one in twenty too
    few points, one in twenty no stock. Without `coupons` no order has one, and none is issued beforehand.
    """

    orders: int
    products: int = 100
    users: int = 1_000
    refusals: bool = False
    prefix: str = ""
    coupons: bool = True

    def ordered(self, number: int) -> Ordered:
        own = self.prefix
        # Multiplied by numbers that share no factor with the counts: mixed, and always the same.
        user, product = f"{own}u{1 + number * 7 % self.users}", f"{own}p{1 + number * 37 % self.products}"
        coupon, end = f"{own}c{number}", "confirmed"
        chance = number % 20 if self.refusals else 19
        if chance in (5, 15):
            coupon, end = f"{own}none{number}", "coupon-unknown"
        elif chance == 7:
            user, end = f"{own}u0", "points-insufficient"
        elif chance == 12:
            product, end = f"{own}p0", "product-out-of-stock"
        return Ordered(user, product, 1 + number % 2, coupon, msgspec.convert(end, End))

    # Requests ---------------------------------------------------------------------------------------------------------

    def opening(self) -> Iterator[Request]:
        """The requests that are needed before the first order."""
        for number in range(self.products + 1):
            product = {"product_id": f"{self.prefix}p{number}", "name": f"Product {number}", "price": PRICE}
            yield Request("product", "/products", product | {"stock": PLENTY if number else 0})
        for number in range(self.users + 1):
            amount = {"amount": PLENTY if number else POINTS - 1}
            yield Request("point", f"/points/{self.prefix}u{number}/charge", amount, key="opening")
        for number in range(self.orders if self.coupons else 0):
            order = self.ordered(number)
            coupon = {
                "coupon_id": f"{self.prefix}c{number}",
                "user_id": order.user,
                "discount": DISCOUNT,
                "expires_at": EXPIRES,
            }
            yield Request("coupon", "/coupons", coupon)

    def placing(self, number: int) -> Request:
        order = self.ordered(number)
        body = {
            "lines": [{"product_id": order.product, "quantity": order.quantity}],
            "points": POINTS,
            **({"coupon_id": order.coupon} if self.coupons else {}),
        }
        return Request("order", "/orders", body, user=order.user, key=new_key())

    def flooding(self, lines: int) -> Iterator[bytes]:
        """Orders of `lines` lines each, without coupons, as bytes to send; without end."""
        made = []
        for user in range(1, self.users + 1):
            wanted = [f"{self.prefix}p{1 + (user * 37 + line) % self.products}" for line in range(lines)]
            body = {"lines": [{"product_id": name, "quantity": 1} for name in wanted], "points": POINTS}
            request = Request("order", "/orders", body, user=f"{self.prefix}u{user}", key="{KEY}").encode()
            made.append(request.split(b"{KEY}"))
        for before, after in itertools.cycle(made):
            yield before + new_key().encode() + after

    def totals(self, confirmed: Iterable[int] | None = None) -> Iterator[Total]:
        """The totals once all orders have ended as expected; with `confirmed`, once none but these were confirmed."""
        pieces, points = Counter[str](), Counter[str]()
        used: set[str] = set()
        if confirmed is None:
            confirmed = (number for number in range(self.orders) if self.ordered(number).end == "confirmed")
        for order in map(self.ordered, confirmed):
            pieces[order.product] += order.quantity
            points[order.user] += POINTS
            used.add(order.coupon)
        for number in range(self.products + 1):
            left = (PLENTY if number else 0) - pieces[f"{self.prefix}p{number}"]
            yield Total(Request("product", f"/products/{self.prefix}p{number}"), "available", left)
        for number in range(self.users + 1):
            left = (PLENTY if number else POINTS - 1) - points[f"{self.prefix}u{number}"]
            yield Total(Request("point", f"/points/{self.prefix}u{number}"), "balance", left)
        for number in range(self.orders if self.coupons else 0):
            yield Total(
                Request("coupon", f"/coupons/{self.prefix}c{number}"), "order_id", f"{self.prefix}c{number}" in used
            )
