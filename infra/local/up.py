"""`python -m infra.local.up`: the broker and all services together in one terminal, until Ctrl-C.

With NATS_URL set they use that broker and none is started. Whatever ends by itself is reported and not started again:
the others are built to carry on. Exit codes: 0 stopped as asked, 1 nothing was left running, 2 could not start, 130
killed by a second Ctrl-C.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Final, NamedTuple

from infra.local.nats import launch_nats, nats_environment
from infra.local.processes import STOP_TIMEOUT_S, StartFailed, start_service, why_not_ready
from infra.local.services import is_free, service_names, service_url
from infra.settings import Settings, SettingsError, load
from infra.tuning import use_batch_scheduling

BROKER: Final = "nats"
SELF: Final = "up"
ASK_EVERY_S: Final = 0.05  # whether a service is ready
SAY_AFTER_S: Final = 10.0  # why one is still not ready

EXIT_STOPPED: Final = 0
EXIT_NOTHING_LEFT: Final = 1
EXIT_USAGE: Final = 2
EXIT_KILLED: Final = 130

COLOURS: Final = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")  # ANSI, one a process, then again


class Line(NamedTuple):
    """A process, or this one, wrote a line."""

    name: str
    text: str


class Ended(NamedTuple):
    """A process is over; a negative exit code is the signal that killed it."""

    name: str
    code: int

    def __str__(self) -> str:
        how = (
            f"was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"ended with exit code {self.code}"
        )
        return f"{self.name} {how}"


class Ready(NamedTuple):
    """Every service is ready; their URLs by name."""

    urls: Mapping[str, str]


class Asked(NamedTuple):
    """Somebody wants this process to stop."""

    how: signal.Signals


Happening = Line | Ended | Ready | Asked


class Up:
    """Whatever happens, in a process, a thread or a signal handler, comes through one queue and is handled in order."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._happenings: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._names = ([] if env.get("NATS_URL") else [BROKER]) + service_names()
        self._width = max(len(name) for name in [*self._names, SELF])
        self._colours = sys.stdout.isatty() and not env.get("NO_COLOR")
        self._mute = False
        self._once_ready: set[str] = set()

    def run(self) -> int:
        """Start everything, report what happens, stop everything; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
                signal.signal(number, self._asked)
        try:
            return self._until_asked()
        finally:
            for process in self._running.values():
                process.kill()

    def _until_asked(self) -> int:
        for name in self._names:
            launch = launch_nats(self._env, subprocess.PIPE) if name == BROKER else self._launch(name)
            self._running[name] = launch
            threading.Thread(target=self._read, args=(name, launch), daemon=True).start()
        threading.Thread(target=self._await_ready, daemon=True).start()
        ready = False
        while True:
            match self._happenings.get():
                case Line(name, text):
                    self._say(name, text)
                case Ready(urls):
                    ready = True
                    self._welcome(urls)
                case Asked(how):
                    return self._stop(EXIT_STOPPED, f"{how.name}: stopping everything")
                case Ended(name) as ended:
                    del self._running[name]
                    if not (ready or name in self._once_ready or (name == BROKER and self._once_ready)):
                        return self._stop(EXIT_USAGE, f"{ended} instead of starting: stopping everything")
                    if not self._running:
                        self._say(SELF, f"{ended}: nothing is left running")
                        return EXIT_NOTHING_LEFT
                    again = "just nats" if name == BROKER else f"just service {name}"
                    self._say(SELF, f"{ended}. The others keep running; `{again}` in another terminal starts it again.")

    def _launch(self, name: str) -> subprocess.Popen[bytes]:
        return start_service(name, self._env, subprocess.PIPE)

    def _stop(self, code: int, why: str) -> int:
        """Services first, so that they can publish what they have recorded; then the broker."""
        self._say(SELF, why)
        for phase in (set(self._running) - {BROKER}, {BROKER}):
            until = time.monotonic() + STOP_TIMEOUT_S
            self._signal(phase, signal.SIGTERM)
            while phase & set(self._running):
                try:
                    happening = self._happenings.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    self._say(SELF, f"not stopped within {STOP_TIMEOUT_S:.0f} s: killing {', '.join(phase)}")
                    self._signal(phase, signal.SIGKILL)
                    until += STOP_TIMEOUT_S
                    continue
                match happening:
                    case Line(name, text):
                        self._say(name, text)
                    case Ended(name, ended_with):
                        del self._running[name]
                        if ended_with != 0:
                            self._say(SELF, str(happening))
                    case Asked(signal.SIGINT):
                        code = EXIT_KILLED
                        self._say(SELF, "SIGINT again: killing everything")
                        self._signal(set(self._running), signal.SIGKILL)
                    case Asked() | Ready():
                        pass
        self._say(SELF, "stopped")
        return code

    def _signal(self, names: set[str], how: signal.Signals) -> None:
        for name in names & set(self._running):
            self._running[name].send_signal(how)

    # In other threads, and in signal handlers: they only tell what happened ------------------------------------------

    def _asked(self, number: int, _: FrameType | None) -> None:
        self._happenings.put(Asked(signal.Signals(number)))

    def _read(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                if self._is_worth_a_line(name, line):
                    self._happenings.put(Line(name, line))
        self._happenings.put(Ended(name, process.wait()))

    def _is_worth_a_line(self, name: str, line: str) -> bool:
        """The broker's banner and its notes of every start and stop are left out; its warnings and errors are not."""
        return name != BROKER or "[INF]" not in line or self._env.get("LOG_LEVEL", "").upper() == "DEBUG"

    def _await_ready(self) -> None:
        try:
            urls = {name: service_url(name, self._env) for name in service_names()}
        except SettingsError:
            return  # the service says it, and ends
        waiting, say_at = dict(urls), time.monotonic() + SAY_AFTER_S
        while waiting:
            reasons = {name: why_not_ready(url) for name, url in waiting.items()}
            waiting = {name: url for name, url in waiting.items() if reasons[name] is not None}
            self._once_ready |= urls.keys() - waiting.keys()
            if waiting and time.monotonic() > say_at:
                say_at = float("inf")
                for name in waiting:
                    self._happenings.put(Line(SELF, f"still waiting for {name}: {reasons[name]}"))
            time.sleep(ASK_EVERY_S)
        self._happenings.put(Ready(urls))

    # Output -----------------------------------------------------------------------------------------------------------

    def _welcome(self, urls: Mapping[str, str]) -> None:
        self._say(SELF, "everything is ready:")
        for name, process in self._running.items():
            where = urls.get(name) or f"nats://127.0.0.1:{nats_environment(self._env)['NATS_PORT']}"
            self._say(SELF, f"  {name:<{self._width}}  pid {process.pid:<7}  {where}")
        self._say(SELF, "each service explains its API at /schema; Ctrl-C stops everything")

    def _say(self, name: str, text: str) -> None:
        if self._mute:
            return
        label = f"{name:<{self._width}} |"
        if self._colours:
            colour = "1" if name == SELF else COLOURS[self._names.index(name) % len(COLOURS)]
            label = f"\033[{colour}m{label}\033[0m"
        try:
            print(label, text, flush=True)
        except OSError:  # whoever read this is gone, and so is the reason to go on
            self._mute = True
            self._happenings.put(Asked(signal.SIGHUP))


def main() -> int:
    env = dict(os.environ)
    if env.get("LOG_FORMAT", "").strip() in ("", "auto"):
        env["LOG_FORMAT"] = "text"  # the services write into a pipe, but people read it
    try:
        settings = load(Settings, BROKER, 4_222, env)
        if not settings.nats_url:
            _check_ports(nats_environment(env))
        use_batch_scheduling()
        return Up(env).run()
    except (SettingsError, StartFailed) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return EXIT_USAGE


def _check_ports(env: Mapping[str, str]) -> None:
    for variable, what in (("NATS_PORT", "the broker"), ("NATS_MONITOR_PORT", "the broker's monitoring")):
        port = env[variable]
        if not port.isdecimal() or not is_free(int(port)):
            raise StartFailed(
                f"port {port} for {what} is taken, or cannot be used. Choose another with {variable}; "
                "or use a broker that runs already with NATS_URL, for example NATS_URL=nats://127.0.0.1:4222."
            )


if __name__ == "__main__":
    raise SystemExit(main())
