"""Runs the dashboard as a process: settings, poller, HTTP on loopback; an orderly end on SIGTERM or SIGINT.

Exit codes: 0 stopped on request, 2 it cannot start. It has no data: it may be killed at any moment, and two may run.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Final

import structlog
import uvloop
from litestar import Litestar

from infra import signals
from infra.aio import first_of
from infra.http.app import App
from infra.http.grammar import MAX_BODY_BYTES
from infra.http.origin_check import OriginCheck
from infra.http.server import Server
from infra.local.dashboard import NAME, dashboard_settings
from infra.printable import printable
from infra.process import logging as logs
from infra.process.startup import CannotStart, listen
from infra.redaction import secrets_in
from infra.settings import Settings, SettingsError
from infra.tuning import prepare_process
from infra.usage import EXIT_USAGE
from ops import newer
from ops.client import services
from ops.dashboard.order import FlowTables
from ops.dashboard.order_routes import OrderBoard, order_routes
from ops.dashboard.poller import Poller
from ops.dashboard.routes import EXCEPTION_HANDLERS, healthz, overview_routes, static
from ops.dashboard.stream import StreamReader
from ops.flow.command import parts
from ops.fold import aggregates
from ops.status.seen import look

logger = structlog.get_logger()

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
ANSWER_S: Final = 2.0
"""A service that has not answered within so many seconds is shown as one that does not answer."""


def run(env: Mapping[str, str]) -> None:
    """Run the dashboard until SIGTERM or SIGINT, then return. Raises SettingsError, CannotStart."""
    settings = dashboard_settings(env)
    prepare_process()
    handler = logs.configure(NAME, settings.log_level, settings.log_format, secrets_in(settings.nats_url.split(",")))
    try:
        with listen(settings.bind_host, settings.port) as listener:
            uvloop.run(_serve(env, settings, listener))
    finally:
        handler.flush()


async def _serve(env: Mapping[str, str], settings: Settings, listener: socket.socket) -> None:
    addresses = services(env)
    poller = Poller(lambda: look(addresses, ANSWER_S))
    stream = StreamReader(settings)
    server = Server(build(env, settings, poller, stream))
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, poller.close)
    signals.release()
    logger.info("started", url=settings.url, pid=os.getpid())

    async def serve() -> None:
        serving = asyncio.create_task(server.serve([listener]))
        closing = asyncio.create_task(poller.closing.wait())
        await asyncio.wait([serving, closing], return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        server.should_exit = True
        await serving

    try:
        await first_of(serve(), _keep(poller))
    finally:
        poller.close()
        await stream.close()
    logger.info("stopped")


async def _keep(poller: Poller) -> None:
    """Run the poller; once it is asked to end, wait for the end of the server, which is asked to end as well."""
    await poller.run()
    await asyncio.Event().wait()


def build(env: Mapping[str, str], settings: Settings, poller: Poller, stream: StreamReader) -> Litestar:
    """Build the dashboard's ASGI app. It imports the services, for their tables of reactions and their aggregates."""
    board = OrderBoard(poller, stream, FlowTables(parts(), aggregates()), lambda: newer.names(env))
    return App(
        [static, healthz, *overview_routes(poller), *order_routes(board, poller)],
        origin_check=OriginCheck(settings.hosts, forms=True),
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def main() -> None:
    try:
        run(os.environ)
    except (SettingsError, CannotStart) as error:
        sys.stderr.write(f"the dashboard cannot start: {printable(str(error))}\n")
        raise SystemExit(EXIT_USAGE) from None
