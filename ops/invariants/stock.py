"""Stock must add up: the sums come from the facts of products and orders, and not from the services' own fold."""

from collections import Counter
from typing import assert_never

from contracts import (
    Order,
    ProductRegistered,
    ProductReleased,
    ProductReserved,
    ProductReserveFailed,
    ProductReserveVoided,
    ProductStockAdded,
    ProductStockHeld,
    ProductStockReceived,
    ProductStockReturned,
)
from contracts.product import ProductSays
from ops.invariants.balances import Balance, IsQuiet, unsettled
from ops.invariants.courses import Course, Courses
from ops.invariants.findings import Entry, Findings
from ops.invariants.live import ProductSeen
from ops.invariants.memory import Memory


class StockInvariant:
    """Checks invariant 1: stock added = available stock + stock held by pending or confirmed orders.

    Available stock is never negative after any fact. For an order, the products' facts hold exactly its lines. Its unit
    prices are those of its products.
    """

    def __init__(self, findings: Findings, memory: Memory) -> None:
        self._findings = findings
        self._products = memory.many("products", Balance)
        self._moving = memory.few("moving", dict[str, int])
        """Order id → product id → pieces that came back (held pieces are negative), by facts of the products.

        Only while the order's reservation or release, which the log has after them, has not been fed.
        """

        self._receiving = memory.few("receiving", dict[str, int])
        """Product id → idempotency key → pieces that were received, while the answer that adds them has not been fed.
        """

    def claim(self, order: Order, times: int) -> None:
        for line in order.lines:
            self._product(line.product_id).claimed += times * line.quantity

    def __len__(self) -> int:
        """Count the registered products."""
        return sum(product.price is not None for product in self._products.values())

    def said(self, entry: Entry, fact: ProductSays, course: Course | None) -> None:
        match fact:
            case ProductStockHeld():
                self._move(entry, fact.order_id, fact.product_id, -fact.quantity)
            case ProductStockReturned():
                self._move(entry, fact.order_id, fact.product_id, fact.quantity)
            case ProductReserved():
                assert course is not None
                self._match(entry, fact.order_id, fact.order, -1)
                self._priced(entry, fact, course)
            case ProductReleased():
                self._match(entry, fact.order_id, fact.order, 1)
            case ProductReserveFailed() | ProductReserveVoided():
                self._match(entry, fact.order_id, fact.order, 0)
            case ProductRegistered():
                product = self._product(fact.product_id)
                if product.price is not None:
                    self._findings.add(1, entry, "registers a product a second time")
                product.price = fact.price
            case ProductStockReceived():
                self._came(fact.product_id, fact.quantity)
                self._receiving.setdefault(fact.product_id, {})[fact.idempotency_key] = fact.quantity
            case ProductStockAdded():
                self._added(entry, fact)
            case _:
                assert_never(fact)

    def _added(self, entry: Entry, fact: ProductStockAdded) -> None:
        if fact.idempotency_key is None or entry.stream == fact.earlier_stream:  # the latter: by older code
            self._came(fact.product_id, fact.quantity)
            return
        receipts = self._receiving.get(fact.product_id, {})
        received = receipts.pop(fact.idempotency_key, 0)
        if not receipts:
            self._receiving.pop(fact.product_id, None)
        if received != fact.quantity:
            self._findings.add(1, entry, f"adds {fact.quantity} pieces, but {received} were received")

    def _came(self, product_id: str, quantity: int) -> None:
        product = self._product(product_id)
        product.came += quantity
        product.left += quantity

    def _product(self, product_id: str) -> Balance:
        product = self._products.get(product_id)
        if product is None:
            product = self._products[product_id] = Balance()
        return product

    def _move(self, entry: Entry, order_id: str, product_id: str, quantity: int) -> None:
        product = self._product(product_id)
        product.left += quantity
        if product.left < 0:
            self._findings.add(1, entry, f"leaves {product.left} of product {product_id}")
        moved = self._moving.setdefault(order_id, {})
        moved[product_id] = moved.get(product_id, 0) + quantity

    def _match(self, entry: Entry, order_id: str, order: Order, times: int) -> None:
        expected = {line.product_id: times * line.quantity for line in order.lines} if times else {}
        moved = self._moving.pop(order_id, {})
        if moved != expected:
            self._findings.add(1, entry, f"the ledgers moved {moved}, should have moved {expected}")

    def _priced(self, entry: Entry, fact: ProductReserved, course: Course) -> None:
        lines, prices = fact.order.lines, fact.unit_prices
        if prices != tuple(self._product(line.product_id).price for line in lines):
            self._findings.add(1, entry, f"has other unit prices than its products: {prices}")
        if fact.total != sum(price * line.quantity for price, line in zip(prices, lines, strict=False)):
            self._findings.add(1, entry, f"has a total that is not the sum of its lines: {fact.total}")
        if not course.agrees_on_prices(fact.unit_prices, fact.total):
            self._findings.add(1, entry, "has other prices than other facts of its order")

    def finish(self, courses: Courses, is_quiet: IsQuiet) -> None:
        in_flight: Counter[str] = Counter()
        for order, times in unsettled(courses, "product", is_quiet):
            for line in order.lines:
                in_flight[line.product_id] += times * line.quantity
        for order_id, moved in self._moving.items():
            if is_quiet(courses.look(order_id)):
                self._findings.add(1, f"order {order_id}", f"the ledgers moved {moved}, but no reservation says so")
            else:  # the cut divides a transaction
                in_flight.subtract(moved)
        for product_id, receipts in self._receiving.items():
            if is_quiet(Course()):
                self._findings.add(1, f"product {product_id}", f"{receipts} were received, but no answer adds them")
        for product_id, product in self._products.items():
            held = product.claimed + in_flight[product_id]
            if product.came != product.left + held:
                what = f"{product.came} were added, {product.left} are available, {held} are held by orders"
                self._findings.add(1, f"product {product_id}", what)

    def seen(self, product_id: str) -> ProductSeen | None:
        product = self._products.get(product_id)
        return None if product is None or product.price is None else ProductSeen(product.price, product.left)
