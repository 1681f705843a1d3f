"""Runs the dashboard as a process: settings, poller, HTTP on loopback; an orderly end on SIGTERM or SIGINT.

Exit codes: 0 stopped on request, 2 it cannot start. It has no data: it may be killed at any moment, and two may run.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from typing import Final

import structlog
import uvloop

from infra import signals
from infra.aio import first_of
from infra.http.server import Server
from infra.http.tls import tls_context
from infra.local.dashboard import NAME, DashboardSettings, dashboard_settings
from infra.process import logging as logs
from infra.process.startup import CannotStart, listen
from infra.redaction import secrets_in
from infra.settings import SettingsError
from infra.tuning import prepare_process
from infra.usage import EXIT_USAGE
from ops.cli import end
from ops.dashboard.app import Dashboard
from ops.dashboard.poller import Poller

logger = structlog.get_logger()

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run(env: Mapping[str, str]) -> None:
    """Run the dashboard until SIGTERM or SIGINT, then return.

    Raises SettingsError if a setting is invalid, CannotStart if it cannot listen at its address.
    """
    settings = dashboard_settings(env)
    prepare_process()
    handler = logs.configure(NAME, settings.log_level, settings.log_format, secrets_in(settings.nats_url.split(",")))
    try:
        with listen(settings.bind_host, settings.port) as listener:
            uvloop.run(_serve(env, settings, listener))
    finally:
        handler.flush()


async def _serve(env: Mapping[str, str], settings: DashboardSettings, listener: socket.socket) -> None:
    dashboard = Dashboard(env, settings)
    poller, server = dashboard.poller, Server(dashboard.app, tls=tls_context(settings))
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, poller.close)
    signals.release()
    logger.info("started", url=settings.url, pid=os.getpid())
    try:
        await first_of(_serve_until_closing(server, poller, listener), _keep(poller))
    finally:
        await dashboard.close()
    logger.info("stopped")


async def _serve_until_closing(server: Server, poller: Poller, listener: socket.socket) -> None:
    serving = asyncio.create_task(server.serve([listener]))
    closing = asyncio.create_task(poller.closing.wait())
    await asyncio.wait([serving, closing], return_when=asyncio.FIRST_COMPLETED)
    closing.cancel()
    server.should_exit = True
    await serving


async def _keep(poller: Poller) -> None:
    """Run the poller until it is closed, then wait until canceled: only the server's end ends the process."""
    await poller.run()
    await asyncio.Event().wait()


def main() -> None:
    """Run the dashboard with this process's environment, as `just up` starts it.

    Ends the process with exit code 2 if the dashboard cannot start.
    """
    try:
        run(os.environ)
    except (SettingsError, CannotStart) as error:
        end(f"the dashboard cannot start: {error}", EXIT_USAGE)
