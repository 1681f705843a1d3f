"""`just up`: run the broker, its stream's keeper, all services and the dashboard in one terminal, until Ctrl-C.

With NATS_URL set, they use that broker and no other is started. A process that ends before it was ready stops
everything. One that ends later is reported and not started again; the others continue. If this process is killed, its
guard stops the others. Exit codes: 0 stopped on request, 1 every process has ended, 2 could not start, 130 killed by a
second Ctrl-C.
"""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Final

from infra import signals
from infra.local.dashboard import NAME as DASHBOARD
from infra.local.dashboard import dashboard_settings
from infra.local.guard import Guard
from infra.local.labelled_output import LabelledOutput
from infra.local.nats import launch_nats, nats_environment
from infra.local.occurrences import AllReady, Occurrence, OutputLine, ProcessEnded, StopRequested
from infra.local.port_check import check_free_ports
from infra.local.processes import STOP_TIMEOUT_S, StartFailed, start_dashboard, start_keeper, start_service
from infra.local.readiness import why_not_ready
from infra.local.services import service_names, service_url
from infra.local.settings import without_blanks
from infra.printable import printable
from infra.settings import SettingsError
from infra.tuning import prepare_process
from infra.usage import EXIT_USAGE, take_no_arguments

BROKER: Final = "nats"
KEEPER: Final = "keeper"
NO_SERVICES: Final = frozenset({BROKER, KEEPER, DASHBOARD})
SELF: Final = "up"
AGAIN: Final = {BROKER: "just nats", KEEPER: "just stream keeper", DASHBOARD: "just dashboard"}
"""What starts a process again that is no service."""
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
    """Runs the broker, the keeper and all services as child processes and shows their output.

    Threads and signal handlers put occurrences into one queue; the main thread handles them in order.
    """

    def __init__(self, env: Mapping[str, str], parent: int | None = None) -> None:
        """`parent`: the process that started this one; stop when it is gone. None: whatever becomes of it."""
        self._env = env
        self._parent = parent
        self._occurrences: queue.SimpleQueue[Occurrence] = queue.SimpleQueue()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._names = ([] if env.get("NATS_URL") else [BROKER]) + service_names() + [KEEPER, DASHBOARD]
        self._output = LabelledOutput(SELF, self._names, colours=not env.get("NO_COLOR"), gone=self._on_gone)
        self._write = self._output.write
        self._once_ready: set[str] = set()

    def run(self) -> int:
        """Start all processes, report what happens, stop all processes; return the exit code.

        Raises StartFailed, SettingsError if a process cannot be started; then none is left running.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it on purpose
                signal.signal(number, self._on_signal)
        signals.release()
        pipes = {name: os.pipe() for name in self._names}
        self._guard = Guard([output for output, _ in pipes.values()])
        try:
            self._start(pipes)
            return self._handle_occurrences()
        finally:
            for process in self._running.values():
                process.kill()
            self._guard.dismiss()
            self._output.flush(FLUSH_S)

    def _start(self, pipes: Mapping[str, tuple[int, int]]) -> None:
        """Start the processes, each with its pipe for what it writes."""
        for name, (output, writing) in pipes.items():
            process = _launch(name, self._env, writing)
            self._guard.watch(process.pid, last=name == BROKER)
            os.close(writing)
            self._running[name] = process
            threading.Thread(target=self._read, args=(name, process, output), daemon=True).start()
        threading.Thread(target=self._await_ready, daemon=True).start()
        if self._parent is not None:
            threading.Thread(target=self._watch_parent, args=(self._parent,), daemon=True).start()

    def _handle_occurrences(self) -> int:
        """Handle occurrences until every process has ended by itself or been stopped; return the exit code."""
        while True:
            match self._occurrences.get():
                case OutputLine(name, text):
                    self._write(name, text)
                case AllReady(urls):
                    self._welcome(urls)
                case StopRequested(how):
                    return self._stop(EXIT_STOPPED, f"{how.name}: stopping everything")
                case ProcessEnded(name) as ended:
                    del self._running[name]
                    if not (self._once_ready if name in NO_SERVICES else name in self._once_ready):
                        return self._stop(EXIT_USAGE, f"{ended} instead of starting: stopping everything")
                    if not self._running:
                        self._write(SELF, f"{ended}: nothing is left running")
                        return EXIT_NOTHING_LEFT
                    again = AGAIN.get(name, f"just service {name}")
                    self._write(SELF, f"{ended}. The others keep running; `{again}` in another terminal restarts it.")

    def _stop(self, code: int, why: str) -> int:
        """Stop the services first, so that they can publish their recorded facts, then the broker.

        Kills what has not ended in time. Returns `code`, or EXIT_KILLED after another Ctrl-C.
        """
        self._write(SELF, why)
        for phase in (set(self._running) - {BROKER}, {BROKER}):
            until = time.monotonic() + STOP_TIMEOUT_S
            self._signal(phase, signal.SIGTERM)
            while phase & set(self._running):
                try:
                    occurrence = self._occurrences.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    names = ", ".join(sorted(phase & set(self._running)))
                    self._write(SELF, f"not stopped within {STOP_TIMEOUT_S:.0f} s: killing {names}")
                    self._signal(phase, signal.SIGKILL)
                    until += STOP_TIMEOUT_S
                    continue
                match occurrence:
                    case OutputLine(name, text):
                        self._write(name, text)
                    case ProcessEnded(name, ended_with):
                        del self._running[name]
                        if ended_with != 0:
                            self._write(SELF, str(occurrence))
                    case StopRequested(signal.SIGINT):
                        code = EXIT_KILLED
                        self._write(SELF, "SIGINT again: killing everything")
                        self._signal(set(self._running), signal.SIGKILL)
                    case StopRequested() | AllReady():
                        pass
        self._write(SELF, "stopped")
        return code

    def _signal(self, names: set[str], how: signal.Signals) -> None:
        for name in names & set(self._running):
            self._running[name].send_signal(how)

    def _welcome(self, urls: Mapping[str, str]) -> None:
        self._write(SELF, "everything is ready:")
        urls = {**urls, DASHBOARD: dashboard_settings(self._env).url}
        for name, process in self._running.items():
            broker = f"nats://127.0.0.1:{nats_environment(self._env)['NATS_PORT']}"
            url = broker if name == BROKER else urls.get(name, "")
            self._write(SELF, f"  {name:<{self._output.width}}  pid {process.pid:<7}  {url}".rstrip())
        self._write(
            SELF, "the dashboard shows all of it; services explain their API at /schema; Ctrl-C stops everything"
        )

    # In other threads and in signal handlers: these only put occurrences into the queue -------------------------------

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._occurrences.put(StopRequested(signal.Signals(number)))

    def _on_gone(self) -> None:
        """Stop: the reader of this output is gone, for example a closed terminal."""
        self._occurrences.put(StopRequested(signal.SIGHUP))

    def _watch_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        self._occurrences.put(StopRequested(signal.SIGHUP))

    def _read(self, name: str, process: subprocess.Popen[bytes], output: int) -> None:
        with open(output, "rb") as lines:
            for raw in lines:
                line = raw.decode(errors="replace").rstrip()
                if self._is_shown(name, line):
                    self._occurrences.put(OutputLine(name, line))
        code = process.wait()
        self._guard.forget(process.pid)
        self._occurrences.put(ProcessEnded(name, code))

    def _is_shown(self, name: str, line: str) -> bool:
        """Return whether to show the line: all are shown, but the broker's [INF] lines only at LOG_LEVEL=debug."""
        return name != BROKER or "[INF]" not in line or self._env.get("LOG_LEVEL", "").upper() == "DEBUG"

    def _await_ready(self) -> None:
        urls = {name: service_url(name, self._env) for name in service_names()}
        waiting, explain_at = dict(urls), time.monotonic() + EXPLAIN_AFTER_S
        while waiting:
            reasons = {name: why_not_ready(url) for name, url in waiting.items()}
            waiting = {name: url for name, url in waiting.items() if reasons[name] is not None}
            self._once_ready |= urls.keys() - waiting.keys()
            if waiting and time.monotonic() > explain_at:
                explain_at = float("inf")
                for name in waiting:
                    self._occurrences.put(OutputLine(SELF, f"still waiting for {name}: {reasons[name]}"))
            time.sleep(READINESS_POLL_S)
        self._occurrences.put(AllReady(urls))


def _launch(name: str, env: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    if name == BROKER:
        return launch_nats(env, output)
    if name == DASHBOARD:
        return start_dashboard(env, output)
    return start_keeper(env, output) if name == KEEPER else start_service(name, env, output)


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
