"""Clients that place hundreds of orders, a few dozen at a time, and what must be the result."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import httpx

from ops.errors import Unreachable

ORDERS: Final = 600
CLIENTS: Final = 32
LAMPS: Final = 50
PATIENCE_S: Final = 90.0
"""Seconds that an order, or the audit without findings, may take. Both take a few, restarts included."""
RETRY_S: Final = 0.05
UNANSWERED: Final = (202, 503)
"""Statuses after which a client sends its request again: the order is pending, or was not accepted."""


class OrderKind(NamedTuple):
    """What one kind of order asks for."""

    product: str
    user: str = "u1"
    points: int = 0
    coupon: str | None = None


KINDS: Final = (
    OrderKind("mug"),
    OrderKind("mug", points=100),
    OrderKind("lamp"),
    OrderKind("mug", user="u2", points=500),
    OrderKind("mug", points=100, coupon="c1"),
)
"""The kinds of orders, in turn: each is a fifth of ORDERS."""

EACH: Final = ORDERS // len(KINDS)
CONFIRMED: Final = EACH + EACH + LAMPS + 1
"""How many orders must be confirmed: u2 has no points, and one order can use the coupon."""

BALANCES: Final[Mapping[str, tuple[int, int]]] = {
    "orders confirmed": (0, CONFIRMED),
    "orders canceled": (0, ORDERS - CONFIRMED),
    "mugs in stock": (1_000, 1_000 - EACH - EACH - 1),
    "lamps in stock": (LAMPS, 0),
    "points of u1": (100_000, 100_000 - 100 * (EACH + 1)),
    "coupons used": (0, 1),
}
"""What is counted: its value before the first order, and after the last."""


class EndedOrder(NamedTuple):
    """The last answer to an order's request: 200 (confirmed) or 409 (canceled), and the order's id.

    `result`: the order's status in a 200, the problem's type in a 409. Each repetition must have an equal answer.
    """

    status: int
    order_id: str
    result: str


class Clients:
    """Places ORDERS orders, CLIENTS at a time. Each request is repeated with its key until it has an EndedOrder.

    `answers`: number of an order, from 0 → its answer. `repeated`: how many requests were sent again.
    """

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self.answers: dict[int, EndedOrder] = {}
        self.repeated = 0
        self._http = http
        self._url = url
        self._more = asyncio.Event()

    async def place_all(self) -> None:
        """Place all orders, and return once each is in `answers`.

        Raises an ExceptionGroup with Unreachable if an order has not ended within PATIENCE_S seconds, or is answered
        with an unexpected status.
        """
        numbers = iter(range(ORDERS))
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._place(numbers))

    async def answered(self, count: int) -> None:
        """Wait until at least `count` orders are in `answers`."""
        while len(self.answers) < count:
            self._more.clear()
            await self._more.wait()

    async def _place(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            self.answers[number] = await self.ask(number)
            self._more.set()

    async def ask(self, number: int) -> EndedOrder:
        """Send the request of the order with this number until it has ended, and return the answer.

        Raises Unreachable if that takes longer than PATIENCE_S seconds, or after an unexpected status.
        """
        kind = KINDS[number % len(KINDS)]
        lines = [{"product_id": kind.product, "quantity": 1}]
        body = {"lines": lines, "points": kind.points, "coupon_id": kind.coupon}
        headers = {"X-User-Id": kind.user, "Idempotency-Key": f"order-{number}"}
        last = "no answer"
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                response = await self._http.post(f"{self._url}/orders", json=body, headers=headers)
            except httpx.HTTPError as error:
                last = repr(error)
            else:
                last = f"{response.status_code} {response.text}"
                if response.status_code in (200, 409):
                    told = response.json()
                    result = told["status"] if response.is_success else told["type"]
                    return EndedOrder(response.status_code, str(told["order_id"]), result)
                if response.status_code not in UNANSWERED:
                    break
            self.repeated += 1
            await asyncio.sleep(RETRY_S)
        raise Unreachable(f"order_svc has not ended order {number}: {last}")
