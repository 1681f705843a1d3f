"""`just up`: run the broker, its stream's keeper, all services and the dashboard in one terminal, until Ctrl-C.

With NATS_URL set, they use that broker and no other is started. A service that ends before it was ever ready stops
everything, as does another process before any service was. One that ends later is reported, and the others continue;
in this terminal only `just roll` starts it again, and never the broker. If this process is killed, its guard stops the
others. Exit codes: 0 stopped by a signal, or because the process that started it or the reader of its output is gone; 1
every process has ended; 2 could not start or wrong usage; 130 killed by Ctrl-C while it was stopping.
"""

import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from types import FrameType
from typing import Final

from infra import signals
from infra.local.children import BROKER, KEEPER, SELF, Children
from infra.local.control import controlled
from infra.local.dashboard import NAME as DASHBOARD
from infra.local.dashboard import dashboard_settings
from infra.local.labelled_output import LabelledOutput
from infra.local.nats import nats_environment
from infra.local.occurrences import AllReady, Occurrence, OutputLine, ProcessEnded, RestartRequested, StopRequested
from infra.local.port_check import check_free_ports
from infra.local.processes import STOP_TIMEOUT_S, Process, StartFailed
from infra.local.readiness import why_not_ready
from infra.local.requested_rolls import RequestedRolls
from infra.local.services import service_names, service_url
from infra.local.settings import without_blanks
from infra.printable import printable
from infra.settings import SettingsError
from infra.tuning import prepare_process
from infra.usage import EXIT_USAGE, take_no_arguments

NO_SERVICES: Final = frozenset({BROKER, KEEPER, DASHBOARD})
AGAIN: Final = {BROKER: "just nats", DASHBOARD: "just dashboard"}
"""What starts a process again in another terminal; `just roll` never starts the broker."""
ROLLED: Final = "`just roll` starts it again here, and restarts all services"
READINESS_POLL_S: Final = 0.05
PARENT_POLL_S: Final = 0.5
PARENT: Final = "--parent"
"""The option by which the recipe names its own process; see `Up`."""
EXPLAIN_AFTER_S: Final = 10.0
"""Seconds until a line explains why a service is still not ready."""

FLUSH_S: Final = 1.0
"""How long the end waits for a reader of its last lines."""

EXIT_STOPPED: Final = 0
EXIT_NOTHING_LEFT: Final = 1
EXIT_KILLED: Final = 130


class Up:
    """Runs the keeper, all services, the dashboard and, without NATS_URL, the broker as children; shows their output.

    Threads and signal handlers put occurrences into one queue; the main thread handles them in order.
    """

    def __init__(self, env: Mapping[str, str], parent: int | None = None) -> None:
        """`parent`: the id of the process that started this one; stop when it is gone. None: no process is watched."""
        self._env = env
        self._parent = parent
        self._occurrences: queue.SimpleQueue[Occurrence] = queue.SimpleQueue()
        names = ([] if env.get("NATS_URL") else [BROKER]) + service_names() + [KEEPER, DASHBOARD]
        self._output = LabelledOutput(SELF, names, colours=not env.get("NO_COLOR"), gone=self._on_gone)
        self._write = self._output.write
        self._children = Children(names, env, self._report)
        self._running = self._children.running
        self._restarted: dict[str, Future[Process]] = {}
        """By name of a process that was asked to end and is started again: who waits for the new one."""
        self._urls = {name: service_url(name, env) for name in service_names()}
        self._dashboard = dashboard_settings(env).url
        self._once_ready: set[str] = set()

    def run(self) -> int:
        """Start all processes, report what happens, stop all processes; return the exit code.

        Raises StartFailed, SettingsError if it cannot start; then no process is left running.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it on purpose
                signal.signal(number, self._on_signal)
        signals.release()
        try:
            rolls = RequestedRolls(
                self._children,
                self._env,
                self._urls,
                dashboard=self._dashboard,
                once_ready=self._once_ready,
                report=self._occurrences.put,
            )
            with controlled(self._env, rolls.answer):
                self._children.start()
                threading.Thread(target=self._await_ready, daemon=True).start()
                if self._parent is not None:
                    threading.Thread(target=self._watch_parent, args=(self._parent,), daemon=True).start()
                return self._handle_occurrences()
        finally:
            self._children.close()
            self._output.flush(FLUSH_S)

    def _handle_occurrences(self) -> int:
        """Handle occurrences until every process has ended by itself or been stopped; return the exit code."""
        while True:
            match self._occurrences.get():
                case OutputLine(name, text):
                    self._write(name, text)
                case AllReady():
                    self._welcome()
                case StopRequested(how):
                    return self._stop(EXIT_STOPPED, f"{how.name}: stopping everything")
                case RestartRequested() as request:
                    self._restart(request)
                case ProcessEnded(name) as ended if name in self._restarted:
                    self._children.ended(name, starts_again=True)
                    if ended.code != 0:
                        self._write(SELF, str(ended))
                    self._start_again(name, self._restarted.pop(name))
                case ProcessEnded(name) as ended:
                    self._children.ended(name)
                    if not (self._once_ready if name in NO_SERVICES else name in self._once_ready):
                        return self._stop(EXIT_USAGE, f"{ended} instead of starting: stopping everything")
                    if not self._running:
                        self._write(SELF, f"{ended}: nothing is left running")
                        return EXIT_NOTHING_LEFT
                    alone = [f"`{AGAIN[name]}` in another terminal restarts it"] if name in AGAIN else []
                    again = "; ".join([*alone, *([] if name == BROKER else [ROLLED])])
                    self._write(SELF, f"{ended}. The others keep running; {again}.")

    def _restart(self, request: RestartRequested) -> None:
        if request.started.done():
            return
        if request.name not in self._running:
            self._start_again(request.name, request.started)
            return
        self._restarted[request.name] = request.started
        self._children.signal({request.name}, signal.SIGKILL if request.killed else signal.SIGTERM)

    def _start_again(self, name: str, started: Future[Process]) -> None:
        try:
            started.set_result(self._children.start_again(name))
        except (StartFailed, SettingsError) as error:
            started.set_exception(StartFailed(str(error)))

    def _stop(self, code: int, why: str) -> int:
        """Stop all but the broker first, so that services can publish their recorded facts; then the broker.

        Kills what has not ended in time. Returns `code`; if Ctrl-C comes meanwhile, kills all and returns EXIT_KILLED.
        """
        self._write(SELF, why)
        for phase in (set(self._running) - {BROKER}, {BROKER}):
            until = time.monotonic() + STOP_TIMEOUT_S
            self._children.signal(phase, signal.SIGTERM)
            while phase & set(self._running):
                try:
                    occurrence = self._occurrences.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    names = ", ".join(sorted(phase & set(self._running)))
                    self._write(SELF, f"not stopped within {STOP_TIMEOUT_S:.0f} s: killing {names}")
                    self._children.signal(phase, signal.SIGKILL)
                    until += STOP_TIMEOUT_S
                    continue
                match occurrence:
                    case OutputLine(name, text):
                        self._write(name, text)
                    case ProcessEnded(name, ended_with):
                        self._children.ended(name)
                        if ended_with != 0:
                            self._write(SELF, str(occurrence))
                    case StopRequested(signal.SIGINT):
                        code = EXIT_KILLED
                        self._write(SELF, "SIGINT again: killing everything")
                        self._children.signal(set(self._running), signal.SIGKILL)
                    case StopRequested() | AllReady() | RestartRequested():
                        pass
        self._write(SELF, "stopped")
        return code

    def _welcome(self) -> None:
        self._write(SELF, "everything is ready:")
        urls = {**self._urls, DASHBOARD: self._dashboard}
        for name, process in self._running.items():
            broker = f"nats://127.0.0.1:{nats_environment(self._env)['NATS_PORT']}"
            url = broker if name == BROKER else urls.get(name, "")
            self._write(SELF, f"  {name:<{self._output.width}}  pid {process.pid:<7}  {url}".rstrip())
        self._write(
            SELF, "the dashboard shows all of it; services explain their API at /schema; Ctrl-C stops everything"
        )

    # In other threads and in signal handlers: these put occurrences into the queue ------------------------------------

    def _report(self, occurrence: Occurrence) -> None:
        """Queue the occurrence; drop the broker's [INF] lines unless LOG_LEVEL is debug."""
        notice = isinstance(occurrence, OutputLine) and occurrence.name == BROKER and "[INF]" in occurrence.text
        if not notice or self._env.get("LOG_LEVEL", "").upper() == "DEBUG":
            self._occurrences.put(occurrence)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._occurrences.put(StopRequested(signal.Signals(number)))

    def _on_gone(self) -> None:
        """Stop: the reader of this output is gone, for example a closed terminal."""
        self._occurrences.put(StopRequested(signal.SIGHUP))

    def _watch_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        self._occurrences.put(StopRequested(signal.SIGHUP))

    def _await_ready(self) -> None:
        waiting, explain_at = dict(self._urls), time.monotonic() + EXPLAIN_AFTER_S
        while waiting:
            reasons = {name: why_not_ready(url) for name, url in waiting.items()}
            waiting = {name: url for name, url in waiting.items() if reasons[name] is not None}
            self._once_ready |= self._urls.keys() - waiting.keys()
            if waiting and time.monotonic() > explain_at:
                explain_at = float("inf")
                for name in waiting:
                    self._occurrences.put(OutputLine(SELF, f"still waiting for {name}: {reasons[name]}"))
            time.sleep(READINESS_POLL_S)
        self._occurrences.put(AllReady())


def main() -> int:
    parent, arguments = None, sys.argv[1:]
    if arguments[:1] == [PARENT] and arguments[1:2] and re.fullmatch("[0-9]{1,9}", arguments[1]):
        parent, arguments = int(arguments[1]), arguments[2:]
    take_no_arguments(str(__doc__), arguments)
    env = without_blanks(os.environ)
    if env.get("LOG_FORMAT", "auto").strip() == "auto":
        env["LOG_FORMAT"] = "text"  # the services write into a pipe, but a person reads it
    try:
        prepare_process()
        check_free_ports(env)
        return Up(env, parent).run()
    except (SettingsError, StartFailed) as error:
        sys.stderr.write(f"cannot start: {printable(str(error))}\n")
        return EXIT_USAGE


if __name__ == "__main__":
    raise SystemExit(main())
