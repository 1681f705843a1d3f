"""Stock, points, coupons and orders kept from the facts alone, and whether their numbers are right.

It asserts those parts of the invariants in `ops.invariants` that are about numbers. The other parts depend on an
order's shape.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from contracts import (
    CouponHeld,
    CouponRestored,
    CouponReturned,
    CouponUsed,
    CouponUseFailed,
    CouponUseVoided,
    Fact,
    Order,
    OrderCanceled,
    OrderConfirmed,
    OrderCreatedPending,
    PointCharged,
    PointCredited,
    PointDebited,
    PointDeposited,
    PointRefunded,
    PointUsed,
    PointUseFailed,
    PointUseVoided,
    PricedFact,
    ProductReleased,
    ProductReserved,
    ProductReserveFailed,
    ProductReserveVoided,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReceived,
    ProductStockReturned,
    SagaFact,
)
from contracts.wire import NAMES
from tests.domain.plan import COUPONS, PRICES, Plan
from tests.domain.world import Said, World
from tests.examples import PLACED_AT


class Story:
    """The facts about one order."""

    __slots__ = ("deadline", "discount", "moved", "order", "places", "prices", "reason", "shape", "status", "total")

    def __init__(self, order: Order, deadline: datetime) -> None:
        self.order = order
        self.deadline = deadline
        self.shape: list[object] = []
        """The types of its facts, the place of each one's cause, and why a step refused or the order was canceled."""
        self.places: dict[str | None, int] = {None: -1}
        """The place of each of its facts, by id; None, no fact, has a place as well."""
        self.moved: list[tuple[str, int]] = []
        """Stock, points or a coupon that the order's next answer has to account for: what, and how many."""
        self.prices: tuple[int, ...] | None = None
        self.total = 0
        self.discount: int | None = None
        self.status = "PENDING"
        self.reason: str | None = None


class Books:
    """Stock, points, coupons and orders according to the facts."""

    def __init__(self, plan: Plan) -> None:
        self.stock = plan.stock.copy()
        self.points = plan.balances.copy()
        self.users: dict[str, str | None] = dict.fromkeys(COUPONS)
        """Which order uses each coupon."""
        self.stories: dict[str, Story] = {}
        """By order: its story."""
        self._keys: set[tuple[str, str | None]] = set()
        self._came: tuple[str, str, int] | None = None
        """What came into a stock or an account last: whose, with which key, how much. The next answer has to say it."""

    def take(self, said: Said) -> None:
        fact: Any = said.fact
        kind = type(fact)
        handle = TOLD.get(kind)
        if handle is not None:
            story = self.stories[fact.order_id]
            shape = story.shape
            shape += (kind, story.places[fact.cause])
            story.places[said.fact_id] = len(shape)
            if kind not in LEDGER:
                assert fact.order is story.order or fact.order == story.order
            handle(self, story, fact)
        elif kind is OrderCreatedPending:
            assert fact.order_id not in self.stories
            assert fact.cause is None
            story = self.stories[fact.order_id] = Story(fact.order, fact.deadline)
            story.places[said.fact_id] = 0
        else:
            assert fact.cause is None
            self._add(fact)

    def _add(self, fact: Fact) -> None:
        match fact:
            case ProductStockReceived():
                self.stock[fact.product_id] += fact.quantity
                self._came = (fact.product_id, fact.idempotency_key, fact.quantity)
            case ProductStockAdded():
                self._once(fact.product_id, fact.idempotency_key)
                assert self._came == (fact.product_id, fact.idempotency_key, fact.quantity)
            case PointDeposited():
                self.points[fact.user_id] += fact.points
                self._came = (fact.user_id, fact.idempotency_key, fact.points)
            case PointCharged():
                self._once(fact.user_id, fact.idempotency_key)
                assert self._came == (fact.user_id, fact.idempotency_key, fact.amount)
            case _:
                raise AssertionError(fact)

    def _once(self, whose: str, key: str | None) -> None:
        assert (whose, key) not in self._keys
        self._keys.add((whose, key))

    def are_live(self, world: World) -> None:
        """Assert that the services' states match the facts, and that every wish has become the order it was."""
        products, accounts, coupons = world.products.heads, world.points.heads, world.coupons.heads
        for product, available in self.stock.items():
            assert products[f"product-{product}"].state.available == available
        for customer, balance in self.points.items():
            assert accounts[f"account-{customer}"].state.balance == balance
        for coupon, user in self.users.items():
            assert coupons[f"coupon-{coupon}"].state.order_id == user
        assert len(self.stories) == len(world.wishes)
        for order_id, wish in zip(world.order_ids, world.wishes, strict=True):
            story = self.stories[order_id]
            order, state = story.order, world.ordering.heads[f"order-{order_id}"].state
            assert (order.user_id, order.lines, order.points, order.coupon_id) == wish[:4]
            assert (state.status, state.reason) == (story.status, story.reason)


# What a fact has to be, and changes -----------------------------------------------------------------------------------


def _held(books: Books, story: Story, fact: ProductStockHeld) -> None:
    books.stock[fact.product_id] -= fact.quantity
    assert books.stock[fact.product_id] >= 0
    story.moved.append((fact.product_id, fact.quantity))


def _returned(books: Books, story: Story, fact: ProductStockReturned) -> None:
    books.stock[fact.product_id] += fact.quantity
    story.moved.append((fact.product_id, fact.quantity))


def _moved_lines(books: Books, story: Story, fact: Fact) -> None:
    assert story.moved == [(line.product_id, line.quantity) for line in story.order.lines]
    story.moved = []


def _reserved(books: Books, story: Story, fact: ProductReserved) -> None:
    _moved_lines(books, story, fact)
    lines = story.order.lines
    assert fact.unit_prices == tuple(PRICES[line.product_id] for line in lines)
    assert fact.total == sum(PRICES[line.product_id] * line.quantity for line in lines)
    story.prices, story.total = fact.unit_prices, fact.total


def _not_reserved(books: Books, story: Story, fact: ProductReserveFailed) -> None:
    assert not story.moved
    story.shape.append(fact.reason)


def _fenced(books: Books, story: Story, fact: Fact) -> None:
    assert not story.moved


def _priced(books: Books, story: Story, fact: PricedFact) -> None:
    assert fact.unit_prices == story.prices
    assert fact.total == story.total


def _refused(books: Books, story: Story, fact: PointUseFailed | CouponUseFailed) -> None:
    _priced(books, story, fact)
    assert not story.moved
    story.shape.append(fact.reason)


def _debited(books: Books, story: Story, fact: PointDebited) -> None:
    books.points[fact.user_id] -= fact.points
    assert books.points[fact.user_id] >= 0
    story.moved.append((fact.user_id, fact.points))


def _credited(books: Books, story: Story, fact: PointCredited) -> None:
    books.points[fact.user_id] += fact.points
    story.moved.append((fact.user_id, fact.points))


def _moved_points(story: Story, points: int) -> None:
    assert points == story.order.points
    assert story.moved == ([(story.order.user_id, points)] if points else [])
    story.moved = []


def _points_used(books: Books, story: Story, fact: PointUsed) -> None:
    _priced(books, story, fact)
    assert fact.points <= fact.total
    _moved_points(story, fact.points)


def _refunded(books: Books, story: Story, fact: PointRefunded) -> None:
    _moved_points(story, fact.points)


def _coupon_held(books: Books, story: Story, fact: CouponHeld) -> None:
    assert books.users[fact.coupon_id] is None
    books.users[fact.coupon_id] = fact.order_id
    story.moved.append((fact.coupon_id, 1))


def _coupon_returned(books: Books, story: Story, fact: CouponReturned) -> None:
    assert books.users[fact.coupon_id] == fact.order_id
    books.users[fact.coupon_id] = None
    story.moved.append((fact.coupon_id, 1))


def _moved_coupon(story: Story, coupon_id: str | None) -> None:
    assert coupon_id == story.order.coupon_id
    assert story.moved == ([] if coupon_id is None else [(coupon_id, 1)])
    story.moved = []


def _coupon_used(books: Books, story: Story, fact: CouponUsed) -> None:
    _priced(books, story, fact)
    order, coupon, discount = story.order, fact.coupon_id, 0
    _moved_coupon(story, coupon)
    if coupon is not None:
        owner, worth, valid = COUPONS[coupon]
        assert owner == order.user_id
        assert order.placed_at < PLACED_AT + valid
        discount = min(worth, fact.total - order.points)
    assert fact.discount == discount
    story.discount = discount


def _restored(books: Books, story: Story, fact: CouponRestored) -> None:
    _moved_coupon(story, fact.coupon_id)


def _confirmed(books: Books, story: Story, fact: OrderConfirmed) -> None:
    _priced(books, story, fact)
    assert fact.points == story.order.points
    assert fact.discount == story.discount
    assert fact.amount_due == fact.total - fact.points - fact.discount >= 0
    story.status = "CONFIRMED"


def _canceled(books: Books, story: Story, fact: OrderCanceled) -> None:
    assert fact.reason != "deadline-exceeded" or fact.at >= story.deadline
    assert fact.unit_prices is None or (fact.unit_prices == story.prices and fact.total == story.total)
    assert fact.discount is None or fact.discount == story.discount
    story.status, story.reason = "CANCELED", fact.reason
    story.shape.append(fact.reason)


def _fine(books: Books, story: Story, fact: Fact) -> None:
    """Accept the fact: only its place in the shape matters."""


TOLD: dict[type[Fact], Callable[[Books, Story, Any], None]] = {
    ProductStockHeld: _held,
    ProductStockReturned: _returned,
    ProductReserved: _reserved,
    ProductReleased: _moved_lines,
    ProductReserveFailed: _not_reserved,
    ProductReserveVoided: _fenced,
    PointDebited: _debited,
    PointCredited: _credited,
    PointUsed: _points_used,
    PointUseFailed: _refused,
    PointRefunded: _refunded,
    PointUseVoided: _fenced,
    CouponHeld: _coupon_held,
    CouponReturned: _coupon_returned,
    CouponUsed: _coupon_used,
    CouponUseFailed: _refused,
    CouponRestored: _restored,
    CouponUseVoided: _fenced,
    OrderConfirmed: _confirmed,
    OrderCanceled: _canceled,
}
TOLD |= {fact: _fine for fact in NAMES if issubclass(fact, SagaFact) and fact not in {*TOLD, OrderCreatedPending}}
"""By type: checks a fact that follows an order's first one, and puts it into the books and the order's story.

The facts of other steps change no books: the audit's rules judge them.
"""

LEDGER: Final = (
    *(ProductStockHeld, ProductStockReturned, PointDebited, PointCredited),
    *(CouponHeld, CouponReturned),
)
"""Facts that do not contain the order."""
