"""A checker of the shop's ten invariants, which hold although processes crash and messages come twice or late.

1.  stock: added = available + held by pending or confirmed orders; available is never negative after any fact
2.  points: charged = balance + used by pending or confirmed orders; never negative
3.  a coupon is in use by at most one order
4.  every accepted order reaches exactly one first end within its deadline plus a bound, once faults stop; a confirmed
    order may later be canceled once
5.  CONFIRMED ⇔ all awaited steps done and none undone; CANCELED and quiet ⇒ every done step undone exactly once
6.  nothing undone that was not done; a fence has no effect on balances
7.  versions gapless, event ids unique, causes exist
8.  service logs = stream, as sets by fact id with equal bytes, when quiet
9.  folding from zero = live state
10. one idempotency key → one order

The checker computes from the facts alone. Beyond contracts/ and `infra.timestamps` it shares no code with the services
that said them, lest it share their mistakes. It is pure, apart from its memory: no I/O, no clock.

Pending: accepted and not ended. Quiet: no further fact is to be expected. Of 4, an order that is pending too long is a
finding; one that ended late is none.
"""

from ops.invariants.checker import Checker, LogEntry, Message, check
from ops.invariants.findings import Finding
from ops.invariants.live import CouponSeen, Live, OrderSeen, ProductSeen
from ops.invariants.unjudged import Newer

__all__ = [
    "Checker",
    "CouponSeen",
    "Finding",
    "Live",
    "LogEntry",
    "Message",
    "Newer",
    "OrderSeen",
    "ProductSeen",
    "check",
]
