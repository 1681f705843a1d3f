"""Processes as a person starts them: what they print, how they end, what they leave behind."""

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra.local.services import ROOT
from tests.forked import Forked
from tests.shop import PATIENCE_S, attempts


class Started:
    """A running process and what it has printed so far, standard error included."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def file(self) -> str:
        """The name of the file that has the output."""
        return self._output.name

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    async def prints(self, text: str) -> None:
        """Returns when the text is in the output; fails when the process ends without it."""
        async for _ in attempts(f"{text!r} in the output"):
            ended = self.process.poll() is not None
            if text in self.output:
                return
            assert not ended, f"ended with {self.process.returncode} before {text!r}:\n{self.output}"

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)


@contextlib.contextmanager
def started(module: str, *arguments: str, env: Mapping[str, str], folder: Path) -> Iterator[Started]:
    """`python -m module arguments` without a terminal, stopped at the end together with all that it left."""
    output = folder / f"{module}.{len(left_in(folder))}.out"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Started(process, output)
    finally:
        _clean_up(process, folder)


@contextlib.contextmanager
def on_a_terminal(module: str, *, env: Mapping[str, str], folder: Path) -> Iterator[tuple[Started, int]]:
    """The same on a terminal of its own; what is written to the descriptor is typed there."""
    keyboard, screen = pty.openpty()
    terminal = os.ttyname(screen)
    output = folder / f"{module}.screen"
    output.touch()
    # Opened by the leader of a session, the terminal becomes the one whose Ctrl-C it gets.
    opening = 'terminal=$1; shift; exec "$@" <"$terminal" >"$terminal" 2>&1'
    process = subprocess.Popen(
        ["sh", "-c", opening, "sh", terminal, sys.executable, "-m", module],
        cwd=ROOT,
        env={**env, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )

    def record() -> None:
        with output.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while data := os.read(keyboard, 65_536):
                file.write(data)

    recording = threading.Thread(target=record)
    recording.start()
    try:
        yield Started(process, output), keyboard
    finally:
        _clean_up(process, folder)
        os.close(screen)  # the last one: reading ends
        recording.join()
        os.close(keyboard)


async def run(
    module: str, *arguments: str, env: Mapping[str, str], cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments`, to its end, without a terminal."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env={**env, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S * 2,
        check=False,
    )


def running_in(folder: Path) -> dict[int, str]:
    """Processes that were started with this folder in their environment: pid → command line."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def left_in(folder: Path) -> list[str]:
    """The names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _clean_up(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    for pid in running_in(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
