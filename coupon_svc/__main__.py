"""Composes coupon_svc as SERVICE; `python -m coupon_svc` runs it."""

from contracts import CouponRestored, CouponUsed, CouponUseFailed, CouponUseVoided
from coupon_svc.api import routes
from coupon_svc.domain import coupon, use
from coupon_svc.reactions import REACTIONS
from coupon_svc.wallet import Wallet
from infra.core.decider import Aggregate
from infra.process.service import Service, run

ANSWERS = (CouponUsed, CouponUseFailed, CouponRestored, CouponUseVoided)

SERVICE = Service(
    name="coupon",
    port=8004,
    aggregates={
        "coupon": Aggregate(coupon.State, coupon.decide, coupon.evolve),
        "couponuse": Aggregate(use.State, use.decide, use.evolve, usually_new=True, moved=ANSWERS),
        "nocoupon": Aggregate(use.State, use.decide, use.evolve, usually_new=True),  # an order without a coupon
    },
    reactions=REACTIONS,
    routes=routes,
    views=[Wallet()],
)

if __name__ == "__main__":
    run(SERVICE)
