"""Whatever listens where a service should be is asked without an error, and told from a service."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from infra.local import readiness
from infra.local.processes import StartFailed
from infra.local.readiness import LONGEST_ANSWER, wait_ready, why_not_ready

GZIP, PLAIN = (("Content-Encoding", name) for name in ("gzip", "identity"))


@contextmanager
def answering(status: int, header: tuple[str, str], body: bytes) -> Iterator[str]:
    """A program that answers everything like this; yields its base URL."""

    class Requests(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header(*header)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Not on the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Requests)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "header", "body", "told"),
    [
        (200, GZIP, b"no gzip", "it does not answer as a service does: "),
        (503, GZIP, b"no gzip", "it does not answer as a service does: "),
        (307, ("Location", "data:x"), b"", "it does not answer as a service does: "),
        (503, PLAIN, b"\xff", "it answers 503"),
        (503, PLAIN, b"[" * 100_000, "it answers 503"),
        (503, PLAIN, b'{"detail":"no session"}', "no session"),
        (503, PLAIN, b" " * LONGEST_ANSWER + b'{"detail":"no session"}', "it does not answer as a service does: "),
    ],
)
def test_whatever_answers_is_told_in_words(status: int, header: tuple[str, str], body: bytes, told: str) -> None:
    with answering(status, header, body) as url:
        assert str(why_not_ready(url)).startswith(told)


class Ended:
    """A process that is found to have ended when it is looked at for the second time."""

    pid = 4_711
    returncode = 2

    def __init__(self) -> None:
        self._looks = iter([None])

    def poll(self) -> int | None:
        return next(self._looks, self.returncode)

    def wait(self, timeout: float | None = None) -> int:
        raise AssertionError

    def send_signal(self, sig: int) -> None:
        raise AssertionError

    def kill(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("body", [b'{"ready":true,"pid":5}', b'{"ready":true}', b"[4711]", b"<html>", b"[" * 100_000])
def test_the_answer_of_another_process_is_not_taken_for_the_one_that_was_started(body: bytes) -> None:
    with answering(200, PLAIN, body) as url:
        assert why_not_ready(url) is None
        assert why_not_ready(url, 4_711) == "another program answers there, and not process 4711"
        with pytest.raises(StartFailed, match="point_svc ended with exit code 2 while it was starting"):
            wait_ready("point", {"BIND_HOST": "127.0.0.1", "POINT_PORT": url.rpartition(":")[2]}, Ended())


def test_the_answer_of_the_process_that_was_started_counts() -> None:
    with answering(200, PLAIN, b'{"ready":true,"pid":4711}') as url:
        wait_ready("point", {"BIND_HOST": "127.0.0.1", "POINT_PORT": url.rpartition(":")[2]}, Ended())


def test_a_body_that_comes_too_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each part less time is left than none."""
    times = iter(range(0, 1_000, 3))
    monkeypatch.setattr(readiness, "monotonic", lambda: next(times))
    with answering(503, PLAIN, b'{"detail":"no session"}') as url:
        assert why_not_ready(url) == "it does not answer as a service does: it is too slow"
