"""Composes order_svc as SERVICE; `python -m order_svc` runs it."""

from collections.abc import Sequence

from litestar.types import ControllerRouterHandler

from infra.core.decider import Aggregate
from infra.process.audit_report import AuditGauges
from infra.process.runtime import Runtime
from infra.process.service import Service, run
from infra.process.stream_gauges import export_stream
from order_svc import api, listing_api
from order_svc.admission import SOON_AT_LEAST_S, AdmissionControl
from order_svc.compensations import Compensations
from order_svc.deadlines import deadlines
from order_svc.domain import State, decide, evolve
from order_svc.end_lines import end_lines
from order_svc.listing import Listing
from order_svc.measures import OrderMeasures
from order_svc.progress import Progress
from order_svc.reactions import REACTIONS
from order_svc.repeats import Repeats
from order_svc.settings import OrderSettings


def routes(runtime: Runtime) -> Sequence[ControllerRouterHandler]:
    settings = runtime.settings
    soon_s = max(SOON_AT_LEAST_S, settings.order_wait_s / 2)
    admission = AdmissionControl(settings.orders_in_flight, soon_s, stalled_s=lambda: runtime.broker.stalled_s)
    progress = Progress(runtime, admission)
    compensations = Compensations(runtime.metrics)
    measures = OrderMeasures(runtime, compensations)
    export_stream(runtime)
    AuditGauges(runtime)
    placing = api.routes(runtime, admission, progress, Repeats(runtime.store), measures)
    return [*placing, *listing_api.routes(runtime, compensations)]


SERVICE = Service(
    name="order",
    port=8001,
    aggregates={"order": Aggregate(State, decide, evolve, usually_new=True)},
    reactions=REACTIONS,
    routes=routes,
    settings=OrderSettings,
    caller_header=api.caller_required.header,
    views=[Listing()],
    watchers=[deadlines, end_lines],
)

if __name__ == "__main__":
    run(SERVICE)
