"""A service's HTTP app: its own routes, and those for operators."""

import sys
from collections.abc import Sequence
from functools import partial

from litestar import Litestar
from litestar.types import ControllerRouterHandler

from infra.auth.rate_limit import RateLimit
from infra.auth.start import open_verifier
from infra.http.access import Authentication, check_declared
from infra.http.app import build_app
from infra.http.operators.dead_letters import dead_letter_routes
from infra.http.operators.metrics import metrics_route
from infra.http.operators.read_models import view_routes
from infra.process.readiness import warnings, why_not_ready
from infra.process.runtime import Runtime
from infra.settings import Settings


def build(name: str, routes: Sequence[ControllerRouterHandler], runtime: Runtime, caller_header: str = "") -> Litestar:
    """Build the app of the service `name`: its own `routes`, and those for operators. `caller_header`: see Service.

    Adds to the runtime's warnings if callers need tokens. Raises FastPathRefused; AccessMissing; SettingsError if the
    keys of tokens cannot be used.
    """
    verifier = open_verifier(runtime.settings)
    if verifier is not None:
        runtime.warnings.append(lambda: [verifier.trouble] if verifier.trouble else [])
    operating = [
        view_routes(runtime.views, runtime.action_log),
        dead_letter_routes(runtime.consumers, runtime.metrics, runtime.action_log),
        metrics_route(runtime.metrics),
    ]
    app = build_app(
        f"{name}_svc",
        [*routes, *operating],
        partial(why_not_ready, runtime),
        partial(warnings, runtime),
        runtime.settings.hosts,
        description=_description(name),
        durations=runtime.requests,
        authentication=None if verifier is None else Authentication(verifier, caller_header, _limit(runtime.settings)),
    )
    check_declared(app)
    return app


def _limit(settings: Settings) -> RateLimit | None:
    return RateLimit(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None


def _description(name: str) -> str | None:
    """Return the first line of the docstring of the package `<name>_svc`: what the service does.

    None: the package has no docstring, or is not imported.
    """
    package = sys.modules.get(f"{name}_svc")
    return None if package is None or not package.__doc__ else package.__doc__.strip().partition("\n")[0]
