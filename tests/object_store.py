"""A real S3-compatible store for tests: versitygw over a folder, on a free port."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.ports import free_ports
from tests.shop import PATIENCE_S

PROGRAM = "versitygw"
SECRET = "a-secret-that-nobody-may-read"
KEY_ID = "AKIDOFTHETESTS"
BUCKET = "shop-archive"
PREFIX = "saga/events"


class ObjectStore:
    """The store with one bucket; `env` is what a service needs to use it."""

    def __init__(self, folder: Path, tls: Path | None = None) -> None:
        """`tls`: a folder with server.pem and server.key, for a store with TLS."""
        self._folder = folder
        self._tls = () if tls is None else ("--cert", str(tls / "server.pem"), "--key", str(tls / "server.key"))
        (self._port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.objects = folder / "buckets" / BUCKET / PREFIX
        """The folder with the objects, each a file, below the prefix."""
        self.env = {
            "ARCHIVE_URL": f"s3://{BUCKET}/{PREFIX}",
            "ARCHIVE_ENDPOINT": f"{'https' if tls else 'http'}://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        for name in (f"buckets/{BUCKET}", "sidecar"):
            (folder / name).mkdir(parents=True)

    def start(self) -> None:
        folders = "--sidecar", str(self._folder / "sidecar"), str(self._folder / "buckets")
        command = [PROGRAM, "--port", f"127.0.0.1:{self._port}", *self._tls, "posix", *folders]
        env = {**os.environ, "ROOT_ACCESS_KEY": KEY_ID, "ROOT_SECRET_KEY": SECRET}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        until = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < until, "the store does not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1.0):
            return True
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None

    def pause(self) -> None:
        """It takes connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def files(self) -> dict[str, bytes]:
        """The content of each object, by its name below the prefix."""
        found = [path for path in self.objects.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.objects)): path.read_bytes() for path in found}

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()


@contextlib.contextmanager
def object_store(folder: Path, tls: Path | None = None) -> Iterator[ObjectStore]:
    """The store, running. Without versitygw the test is left out, but not where all are wanted."""
    if shutil.which(PROGRAM) is None and not os.environ.get("TEST_ALL"):
        pytest.skip(f"{PROGRAM} is missing: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0")
    store = ObjectStore(folder, tls)
    store.start()
    try:
        yield store
    finally:
        store.stop()
