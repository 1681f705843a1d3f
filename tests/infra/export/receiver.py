"""A data platform over real HTTP that can be told to misbehave, and keeps each row once by its key."""

import contextlib
import gzip
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

DROP = "drop"  # takes the rows, closes the connection without an answer
HANG = "hang"  # takes the rows, answers nothing as long as it is open
DRIP = "drip"  # takes the rows, answers a byte at a time and never comes to an end


class Answer(NamedTuple):
    status: int
    retry_after: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Batch(NamedTuple):
    """A POST as it came: also those that were refused."""

    headers: dict[str, str]
    rows: list[dict[str, Any]]


class Receiver:
    """`faults` are spent one a POST; when there are none left, `otherwise` answers."""

    def __init__(self) -> None:
        self.faults: deque[Answer | str] = deque()
        self.otherwise: Answer | str = Answer(204)
        self.batches: list[Batch] = []
        self.rows: dict[str, dict[str, Any]] = {}
        self.totals: bytes = b""
        self.asked: list[str] = []
        self.url = ""
        self.closed = threading.Event()
        self._lock = threading.Lock()

    def take(self, batch: Batch) -> Answer | str:
        with self._lock:
            self.batches.append(batch)
            fault = self.faults.popleft() if self.faults else self.otherwise
            if isinstance(fault, str) or fault.status < 300:
                for row in batch.rows:
                    there = self.rows.setdefault(row["fact_id"], row)
                    assert there == row, "one key, one content"
            return fault

    @property
    def positions(self) -> list[int]:
        """Of the rows it keeps, in the order they came."""
        with self._lock:
            return [row["position"] for row in self.rows.values()]

    @property
    def keys(self) -> list[str]:
        return [batch.headers["Idempotency-Key"] for batch in self.batches]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Requests(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
            rows = [json.loads(line) for line in body.decode().splitlines()]
            answer = receiver.take(Batch(dict(self.headers.items()), rows))
            self.close_connection = True
            if isinstance(answer, str):
                if answer == HANG:
                    receiver.closed.wait()
                with contextlib.suppress(OSError):  # who is tired of it hangs up
                    while answer == DRIP and not receiver.closed.wait(0.01):
                        self.wfile.write(b"H")
                return
            self.send_response(answer.status)
            if answer.retry_after is not None:
                self.send_header("Retry-After", answer.retry_after)
            for header in answer.headers:
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(answer.body)

        def do_GET(self) -> None:
            receiver.asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(receiver.totals)

        def log_message(self, format: str, *args: Any) -> None:
            """Not on the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    receiver.url = f"http://127.0.0.1:{server.server_port}/orders"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closed.set()
        server.shutdown()
        thread.join()
        server.server_close()
