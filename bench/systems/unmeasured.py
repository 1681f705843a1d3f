"""`python -m bench.systems.unmeasured NAME`: a service that counts and times nothing, to measure what metrics cost.

It exports its metrics as they are at the start; gauges are read at a scrape, and stay.
"""

import pkgutil
import sys
from typing import Any

from infra.http.durations import RequestDurations
from infra.process.measures import Measures
from infra.process.service import run
from order_svc.measures import OrderMeasures


def count_nothing() -> None:
    """Take out, in this process, all that metrics do while a service works."""

    def nothing(*_: Any) -> None:
        pass

    for measures, method in (
        (Measures, "recorded"),
        (Measures, "settled"),
        (OrderMeasures, "recorded"),
        (RequestDurations, "observe"),
    ):
        setattr(measures, method, nothing)
    Measures.measured = lambda _, store: store  # type: ignore[method-assign,assignment,return-value]


if __name__ == "__main__":
    count_nothing()
    service = pkgutil.resolve_name(f"{sys.argv.pop()}_svc.__main__:SERVICE")
    run(service)
