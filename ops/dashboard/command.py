"""The command `orders dashboard`."""

import os

import rich_click as click

from infra.process.startup import CannotStart
from ops.cli import ending_well
from ops.dashboard import process
from ops.errors import Unusable


@click.command("dashboard")
@ending_well
def command() -> None:
    """Show the whole flow in a browser: what is well, what waits for whom, every order's way. Until SIGTERM or Ctrl-C.

    The dashboard logs its address. It asks the services for numbers and lists, and the broker for dead letters and for
    the facts of an order that is opened or looked for. Searches read the services' logs in DATA_DIR. It changes nothing
    unless you redrive a dead letter. `just up` starts a dashboard, too. Only this machine can reach it.

    \b
    Exit code: 0 stopped on request; 2 it cannot start
    Settings:  DASHBOARD_PORT (8000), BIND_HOST (127.0.0.1), the services' ports, NATS_URL or NATS_PORT,
               DASHBOARD_TRACE_URL (unset), DATA_DIR (.data) and others: docs/settings.md
    """
    try:
        process.run(os.environ)
    except CannotStart as error:
        raise Unusable(f"the dashboard cannot start: {error}") from None
