"""Python processes forked from one that has imported what they need: real ones, without the second that this takes.

What only a start from nothing can show, a module that lacks an import, is for the tests in tests/e2e, which start what
they test as a person does.
"""

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        *("__main__", "tests.forked"),
        *("infra.process.service", "infra.read_models.stream_view", "infra.export.process", "ops.orders"),
        "litestar.plugins.pydantic",  # where it is installed, Litestar imports it with the first application
    ]
)
ONE_AT_A_TIME = threading.Lock()
"""An exit code can be read once, and starting a process reads those of all others: not two threads at once."""

LIMIT_S = 120.0
"""What a command may take to its end; never what it takes."""


class Forked:
    """`python -m module arguments` in a session of its own, used as a Popen; what it prints is added to files."""

    def __init__(
        self, module: str, *arguments: str, env: Mapping[str, str], stdout: Path, stderr: Path | None = None
    ) -> None:
        from tests import levels  # noqa: PLC0415 - the process that tests fork from must not have its hook

        levels.started(levels.PROCESSES, f"`python -m {module}`")
        self._process = FORKS.Process(
            target=_become, args=(module, arguments, dict(env), stdout, stderr or stdout), daemon=True
        )
        for path in {stdout, stderr or stdout}:
            path.touch()
        with ONE_AT_A_TIME:
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with ONE_AT_A_TIME:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; raises TimeoutExpired."""
        multiprocessing.connection.wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def run(module: str, *arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments`, to its end, without a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = Forked(module, *arguments, env=env, stdout=stdout, stderr=stderr)
        try:
            code = await asyncio.to_thread(process.wait, LIMIT_S)
        finally:
            process.kill()
        said = [path.read_text(encoding="utf-8") for path in (stdout, stderr)]
        return subprocess.CompletedProcess([module, *arguments], code, *said)


def _become(module: str, arguments: Sequence[str], env: Mapping[str, str], stdout: Path, stderr: Path) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    for descriptor, path in ((1, stdout), (2, stderr)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, encoding="utf-8", closefd=False) for number in (1, 2))
    sys.argv[1:] = arguments
    sys.modules.pop(module, None)  # it is to run once more, as the main one
    runpy.run_module(module, run_name="__main__", alter_sys=True)
