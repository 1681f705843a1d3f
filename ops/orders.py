"""`orders`: what operators and auditors ask of a running system. Each command has a module of its own."""

import rich_click as click

from infra.process import logging as logs
from ops import at, flow, trace
from ops.audit import command as audit
from ops.dlq import command as dlq
from ops.rebuild import command as rebuild
from ops.replay import command as replay
from ops.what_if import command as what_if


@click.group(
    epilog="Exit codes: 0 good, 1 a finding, 2 wrong usage, 3 the system cannot be reached. The broker is the one that "
    "NATS_URL or NATS_PORT name, the services' logs are those below DATA_DIR."
)
def orders() -> None:
    """Look into the history of the orders on a running system, and into the flow they follow."""


for command in (
    trace.command,
    at.command,
    audit.command,
    dlq.command,
    dlq.command,
    flow.command,
    rebuild.command,
    replay.command,
    what_if.command,
):
    orders.add_command(command)


def main() -> None:
    logs.configure("orders", "WARNING", "text")  # to standard error: what is asked for stands on standard output
    orders(prog_name="orders")


if __name__ == "__main__":
    main()
