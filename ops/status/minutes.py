"""Rates and times over minutes, which a running dashboard answers to `just status`.

`just status` itself looks for two seconds only; a dashboard has looked at the services since it started.
"""

from collections.abc import Mapping
from typing import Final

import httpx
import msgspec

from infra.local.dashboard import dashboard_settings
from ops.client import ServiceAddress, ServiceRequest, send_with
from ops.errors import Unreachable
from ops.status.figures import Figures

PATH: Final = "/figures"
TIMEOUT_S: Final = 1.0


class Rates(msgspec.Struct):
    """The fields of Figures that are of a time, not of a moment."""

    window_s: float
    known: bool
    accepted: float
    confirmed: float
    canceled: float
    refused: float
    end_p50_s: float | None
    end_p99_s: float | None
    compensated_p50_s: float | None
    compensated_p99_s: float | None
    reasons: dict[str, float]
    refusals: dict[str, float]


class RatesAnswer(msgspec.Struct):
    """What a dashboard answers. `order`: the URL of the order_svc that it looks at; it may be another system's."""

    order: str
    figures: Rates


def told(order: ServiceAddress, seen: Figures) -> RatesAnswer:
    """Return the answer of a dashboard that has seen this."""
    return RatesAnswer(order.url, Rates(**{name: getattr(seen, name) for name in Rates.__struct_fields__}))


async def over_minutes(
    http: httpx.AsyncClient, env: Mapping[str, str], order: ServiceAddress, seen: Figures
) -> Figures:
    """Return the figures, with the rates of this system's dashboard if those are over a longer time.

    Without an answer in TIMEOUT_S (1 s), and for one without known rates or of another program or system, the figures
    are returned as they are. Raises SettingsError.
    """
    request = ServiceRequest(ServiceAddress("dashboard", dashboard_settings(env).url), "GET", PATH)
    try:
        answer = await send_with(http, request, TIMEOUT_S)
        found = msgspec.convert(answer.body, RatesAnswer)
    except (Unreachable, msgspec.ValidationError):
        return seen
    if answer.status != 200 or found.order != order.url or not found.figures.known:
        return seen
    rates = msgspec.structs.asdict(found.figures)
    return seen._replace(**rates) if found.figures.window_s > seen.window_s else seen
