"""The command `just demo`: its option, the system that it starts, and its verdict."""

import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

import rich_click as click

from infra import signals
from infra.local.own_system import OwnSystem
from infra.local.processes import StartFailed
from infra.settings import SettingsError
from ops.cli import EXIT_FINDING, Command, end
from ops.demo import output
from ops.demo.cases import CASES
from ops.demo.crash import CrashDemo
from ops.demo.load import CLIENTS, EACH, LAMPS, ORDERS
from ops.demo.orders import Demo
from ops.errors import Unreachable


@click.command("demo", cls=Command)
@click.option("--crash", is_flag=True, help="Hundreds of orders, a killed service and a deleted broker's store.")
def command(*, crash: bool) -> None:
    """Watch orders on a system of its own: one that succeeds, and one for each step's refusal.

    With --crash, clients place hundreds of orders. Meanwhile order_svc is killed, then the broker with all that it
    stored. Each order must end once, every balance must be right, and the audit must find nothing.

    \b
    Exit code: 0 every result is as expected; 1 one is not, or it cannot run; 2 wrong usage; 130 stopped by a signal
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C: all processes that were started must be stopped
        signal.signal(number, signal.default_int_handler)
    sys.stdout.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]
    began = time.perf_counter()
    print("Starting a broker and all services on free ports, their data in a temporary folder ...")
    try:
        signals.release()
        with (
            tempfile.TemporaryDirectory(prefix="saga-demo-") as folder,
            OwnSystem(Path(folder), ORDER_WAIT_S="10", ORDER_DEADLINE_S="300" if crash else "30") as system,
        ):
            print(f"Ready after {time.perf_counter() - began:.1f} s. {introduction(crash=crash)}\n")
            demo = CrashDemo(system) if crash else Demo(system, CASES)
            asyncio.run(demo.run())
    except (StartFailed, SettingsError, Unreachable) as error:
        end(f"The demo could not be run: {error}", EXIT_FINDING)
    except KeyboardInterrupt:
        end("Stopped before its end.", 128 + signal.SIGINT)
    if demo.wrong:
        title = output.coloured("31", "Some results are not as expected:")
        end("\n".join([title, *(f"  {wrong}" for wrong in demo.wrong)]), EXIT_FINDING)
    print(f"\n{ending(time.perf_counter() - began, crash=crash)}")


def introduction(*, crash: bool) -> str:
    if not crash:
        return "Each order below is followed by its facts."
    return (
        f"{CLIENTS} clients place {ORDERS} orders: for mugs, for the last {LAMPS} lamps,\n"
        f"by a user without points, and {EACH} with one coupon. They send a request again, with its\n"
        "Idempotency-Key, until it is answered."
    )


def ending(took_s: float, *, crash: bool) -> str:
    """Return the last lines: that all is as expected after `took_s` seconds; without `crash` also what to start."""
    if crash:
        return f"Every order ended once, and every balance is right ({took_s:.1f} s in all)."
    return (
        f"Every answer, fact, cause and balance is exactly as expected ({took_s:.1f} s in all).\n"
        f"Next: `{output.just()} demo --crash` kills a service and the broker meanwhile. `{output.just()} up` runs the "
        f"system\nfor you; in another terminal `{output.just()} place --help` tells how to order."
    )


def main() -> None:
    command(prog_name="just demo")
