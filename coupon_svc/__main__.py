"""coupon_svc: `python -m coupon_svc`."""

from coupon_svc.api import routes
from coupon_svc.domain import State, decide, evolve
from coupon_svc.reactions import REACTIONS
from coupon_svc.wallet import Wallet
from infra.decider import Aggregate
from infra.service import Service, run

COUPON = Aggregate(State, decide, evolve)  # also of an order without one: it is answered on a stream of its own

SERVICE = Service(
    name="coupon",
    port=8004,
    aggregates={"coupon": COUPON, "nocoupon": COUPON},
    reactions=REACTIONS,
    routes=routes,
    views=[Wallet()],
)

if __name__ == "__main__":
    run(SERVICE)
