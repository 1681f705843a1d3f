"""Composes point_svc as SERVICE; `python -m point_svc` runs it."""

from infra.core.decider import Aggregate
from infra.process.service import Service, run
from point_svc.api import routes
from point_svc.domain import State, decide, evolve
from point_svc.reactions import REACTIONS

SERVICE = Service(
    name="point",
    port=8003,
    aggregates={"account": Aggregate(State, decide, evolve)},
    reactions=REACTIONS,
    routes=routes,
)

if __name__ == "__main__":
    run(SERVICE)
