"""Composes coupon_svc as SERVICE; `python -m coupon_svc` runs it."""

from coupon_svc.api import routes
from coupon_svc.domain import State, decide, evolve
from coupon_svc.reactions import REACTIONS
from coupon_svc.wallet import Wallet
from infra.core.decider import Aggregate
from infra.process.service import Service, run

SERVICE = Service(
    name="coupon",
    port=8004,
    aggregates={
        "coupon": Aggregate(State, decide, evolve),
        "nocoupon": Aggregate(State, decide, evolve, usually_new=True),  # one for each order without a coupon
    },
    reactions=REACTIONS,
    routes=routes,
    views=[Wallet()],
)

if __name__ == "__main__":
    run(SERVICE)
