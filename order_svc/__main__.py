"""order_svc: `python -m order_svc`."""

from infra.decider import Aggregate
from infra.service import Service, run
from order_svc.api import routes
from order_svc.deadlines import OpenOrders, deadlines
from order_svc.domain import State, decide, evolve
from order_svc.reactions import REACTIONS
from order_svc.settings import OrderSettings

SERVICE = Service(
    name="order",
    port=8001,
    aggregates={"order": Aggregate(State, decide, evolve, usually_new=True)},
    reactions=REACTIONS,
    routes=routes,
    settings=OrderSettings,
    views=[OpenOrders()],
    watchers=[deadlines],
)

if __name__ == "__main__":
    run(SERVICE)
