"""Composes point_svc as SERVICE; `python -m point_svc` runs it."""

from contracts import PointCharged, PointRefunded, PointUsed, PointUseFailed, PointUseVoided
from infra.core.decider import Aggregate, no_command
from infra.process.service import Service, run
from point_svc.api import routes
from point_svc.domain import account, charge, use
from point_svc.reactions import REACTIONS

ANSWERS = (PointUsed, PointUseFailed, PointRefunded, PointUseVoided)

SERVICE = Service(
    name="point",
    port=8003,
    aggregates={
        "account": Aggregate(account.State, no_command, account.evolve),
        "charge": Aggregate(charge.State, charge.decide, charge.evolve, usually_new=True, moved=(PointCharged,)),
        "pointuse": Aggregate(use.State, use.decide, use.evolve, usually_new=True, moved=ANSWERS),
    },
    reactions=REACTIONS,
    routes=routes,
)

if __name__ == "__main__":
    run(SERVICE)
