"""`orders`: the operators' commands as one program. Each is in a module or folder of its name, `restore` in backup/."""

import os
import signal
import sys

if __name__ == "__main__":  # until the commands are imported, Ctrl-C ends the process without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import rich_click as click

from infra.files import PRIVATE_UMASK
from infra.process import logging as logs
from ops import at, export, keys, ledger, operators, place, remove_data, token, trace
from ops.archive import command as archive
from ops.audit import command as audit
from ops.backup import command as backup
from ops.cli import CommandGroup
from ops.dashboard import command as dashboard
from ops.dlq import command as dlq
from ops.find import command as find
from ops.flow import command as flow
from ops.output import prepare_output, print_traceback
from ops.rebuild import command as rebuild
from ops.replay import command as replay
from ops.status import command as status
from ops.stream import command as stream
from ops.what_if import command as what_if


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 good, 1 a finding, 2 wrong usage, 3 the system cannot be reached, "
    "4 newer code recorded what this version does not know, 130 stopped by Ctrl-C, 141 nobody reads the output. The "
    "broker is the one of NATS_URL or NATS_PORT; the services' logs are below DATA_DIR.",
)
def orders() -> None:
    """Place orders on a running system, look into their history, export them, and operate the system."""


for command in (
    trace.command,
    archive.command,
    at.command,
    audit.command,
    backup.backup_command,
    backup.restore_command,
    dashboard.command,
    dlq.command,
    export.command,
    find.command,
    keys.command,
    ledger.command,
    flow.command,
    operators.command,
    place.command,
    rebuild.command,
    remove_data.command,
    replay.command,
    status.command,
    stream.command,
    token.command,
    what_if.command,
):
    orders.add_command(command)


def main(program: str = "orders") -> None:
    """Run the command that the process's arguments name, and end the process.

    `program`: what the user typed before that command, for the texts about usage.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(PRIVATE_UMASK)  # reports and exports have what customers ordered
    prepare_output()
    sys.excepthook = print_traceback
    logs.configure("orders", "WARNING", "text")  # to standard error: standard output is for the answer
    orders(prog_name=program)


if __name__ == "__main__":
    main("just")  # the recipes run this module
