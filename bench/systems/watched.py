"""The saga with and without what watches it: metrics, the dashboard with viewers, traces."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from typing import Final
from urllib.parse import urlsplit

from bench.systems import Saga, WentWrong
from infra.local.dashboard import NAME as DASHBOARD
from infra.local.guard import Guard
from infra.local.processes import Output, launch, start_attempts, start_dashboard

VIEWERS: Final = 3
TIMEOUT_S: Final = 10.0
SHARE: Final = "0.1"
"""Of the orders that are traced."""


class Unmeasured(Saga):
    """The saga whose services count and time nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, start=_start_unmeasured)


class Viewed(Saga):
    """The saga with the dashboard, whose overview has this many viewers; the dashboard is one of its processes."""

    def __init__(self, folder: Path, viewers: int = VIEWERS) -> None:
        super().__init__(folder)
        self._viewers = viewers
        self.events: list[int] = []
        """How many events each viewer has had."""

    def __enter__(self) -> "Viewed":
        super().__enter__()
        with ExitStack() as stack:
            stack.callback(super().__exit__)
            process = self.started(stack, DASHBOARD, start_dashboard)
            for _ in start_attempts(process, DASHBOARD):
                if self._shows():
                    break
            self.events = [0] * self._viewers
            for number in range(self._viewers):
                stack.enter_context(self._viewer(number))
            self._watching = stack.pop_all()
        self.pids = {**self.pids, DASHBOARD: process.pid}
        return self

    def __exit__(self, *_: object) -> None:
        self._watching.close()

    def prove(self) -> None:
        """Each viewer was shown something; then as the saga does."""
        if not all(self.events):
            raise WentWrong(f"events that each viewer of the dashboard had: {self.events}")
        super().prove()

    def _connection(self) -> HTTPConnection:
        address = urlsplit(self.url(DASHBOARD))
        return HTTPConnection(str(address.hostname), address.port, timeout=TIMEOUT_S)

    def _shows(self) -> bool:
        with contextlib.closing(self._connection()) as connection, contextlib.suppress(OSError, HTTPException):
            connection.request("GET", "/")
            return connection.getresponse().status == HTTPStatus.OK
        return False

    @contextlib.contextmanager
    def _viewer(self, number: int) -> Iterator[None]:
        """Somebody who has the overview open in a browser: this reads what that is sent."""
        connection = self._connection()
        connection.request("GET", "/live")
        assert connection.sock is not None
        socket, answer = connection.sock, connection.getresponse()

        def view() -> None:
            with contextlib.suppress(OSError, HTTPException, ValueError):  # its end
                while line := answer.readline():
                    self.events[number] += line.startswith(b"id:")

        viewer = threading.Thread(target=view)
        viewer.start()
        try:
            yield
        finally:
            socket.shutdown(SHUT_RDWR)
            viewer.join()
            connection.close()


class Traced(Saga):
    """The saga that sends traces of a tenth of its orders to a collector, which is in this process."""

    def __init__(self, folder: Path) -> None:
        self._collector = _Collector()
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": self._collector.url, "OTEL_TRACES_SAMPLER_ARG": SHARE}
        super().__init__(folder, settings=settings)

    def __enter__(self) -> "Traced":
        self._collector.start()
        try:
            super().__enter__()
        except BaseException:
            self._collector.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
        finally:
            self._collector.close()

    def prove(self) -> None:
        """Spans have come; then as the saga does."""
        if not self._collector.size:
            raise WentWrong("no span has come")
        super().prove()


class _Collector:
    """Takes OTLP over HTTP and forgets it; `size` is how many bytes came."""

    def __init__(self) -> None:
        self.size = 0
        taking = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                taking.size += len(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _start_unmeasured(
    name: str, env: Mapping[str, str], output: Output, *, guard: Guard | None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.systems.unmeasured", name]
    return launch(command, {**env, "PYTHONUNBUFFERED": "1"}, output, guard=guard)
