"""Puts the parts of the dashboard together, and makes its ASGI app."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from litestar import Litestar

from infra.addresses import is_loopback
from infra.auth.start import open_verifier
from infra.http.app import App
from infra.http.origin_check import OriginCheck
from infra.local.dashboard import DashboardSettings
from ops import newer
from ops.client import http_client, services
from ops.dashboard.dead_letter_routes import dead_letter_routes
from ops.dashboard.facts import OrderReader
from ops.dashboard.finding import Finder
from ops.dashboard.forms import MAX_FORM_BYTES, Form
from ops.dashboard.list_routes import list_routes
from ops.dashboard.logs import fact_in_log
from ops.dashboard.order import FlowTables
from ops.dashboard.order_routes import OrderBoard, order_routes
from ops.dashboard.poller import Poller
from ops.dashboard.redrive import Operations, Redriver
from ops.dashboard.routes import EXCEPTION_HANDLERS, FIRST_S, healthz, overview_routes, static
from ops.dashboard.searches import LogSearch
from ops.dashboard.sessions import Sessions
from ops.dashboard.sign_in import SignIn, SignInNeeded, on_sign_in_needed
from ops.dashboard.stream import ALL_LETTERS, StreamReader
from ops.flow.command import parts
from ops.fold import aggregates
from ops.seen_facts import facts_in_logs
from ops.status.seen import look

ANSWER_S: Final = 2.0
"""A service that has not answered within so many seconds is shown as one that does not answer."""


class Dashboard:
    """The parts of one dashboard. It imports the services, for their tables of reactions and their aggregates."""

    def __init__(self, env: Mapping[str, str], settings: DashboardSettings) -> None:
        """Make the parts; nothing is asked yet. `env` has the addresses of the services, and DATA_DIR.

        `settings`: the dashboard's own, as `dashboard_settings` reads them. Raises SettingsError if `env` is invalid.
        """
        addresses = services(env)
        self.poller = Poller(lambda: look(addresses, ANSWER_S, env))
        self._http = http_client()
        self._stream = StreamReader(settings)
        self._operations = Operations(redriver := Redriver(self._http, addresses))
        tables = FlowTables(parts(), aggregates())
        reader = OrderReader(self._stream.latest, partial(facts_in_logs, env), lambda: newer.names(env))
        letters = partial(self._stream.dead_letters, ALL_LETTERS, whole=False)
        finder = Finder(
            self._http,
            addresses,
            reader,
            letters,
            seen=partial(self.poller.fresh, FIRST_S),
            in_log=partial(fact_in_log, env),
        )
        board = OrderBoard(self.poller, self._stream, tables, reader, trace_template=settings.dashboard_trace_url)
        verifier, form = open_verifier(settings), Form()
        over_tls = bool(settings.tls_cert_file) or not is_loopback(settings.bind_host)  # where a proxy ends it
        sign_in = None if verifier is None else SignIn(Sessions(verifier), form, settings.port, over_tls=over_tls)
        self.app: Litestar = App(
            [
                *(() if sign_in is None else sign_in.routes()),
                static,
                healthz,
                *overview_routes(self.poller, tables, addresses["order"]),
                *list_routes(self._http, addresses, self.poller, finder, LogSearch(env)),
                *order_routes(board, self.poller),
                *dead_letter_routes(self._stream, redriver, self._operations, self.poller, form),
            ],
            # Where nobody signs in, names of ALLOWED_HOSTS are for the services alone.
            origin_check=OriginCheck(() if sign_in is None else settings.hosts, forms=True),
            guards=[] if sign_in is None else [sign_in.guard],
            exception_handlers={**EXCEPTION_HANDLERS, SignInNeeded: on_sign_in_needed},
            request_max_body_size=MAX_FORM_BYTES,
            openapi_config=None,
            logging_config=None,
        )

    async def close(self) -> None:
        """End all waits for a snapshot, wait for the keys that are being redriven, then close the connections.

        Call it after HTTP has ended.
        """
        self.poller.close()
        await self._operations.close()
        await self._stream.close()
        await self._http.aclose()
