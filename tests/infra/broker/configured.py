"""A real nats-server with a configuration of the test's own."""

import asyncio
import contextlib
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from infra.broker.client import BrokerClient
from infra.broker.connection import connect
from infra.broker.errors import BrokerError
from infra.local.nats import nats_server
from infra.local.ports import free_ports
from infra.local.processes import launch, start_attempts, stop_process
from infra.settings import Settings

TLS: Final = Path(__file__).parent / "tls"
"""An authority's certificate, and a server's for 127.0.0.1 and localhost with its key; for these tests alone."""

CERTIFICATE: Final = f'cert_file: "{TLS}/server.pem", key_file: "{TLS}/server.key", timeout: 10'
JETSTREAM: Final = "jetstream { store_dir: $STORE }"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class ConfiguredBroker:
    """One nats-server on a free port. `configuration` follows the line with the port; $STORE is a folder for it."""

    def __init__(self, folder: Path, configuration: str) -> None:
        self._folder = folder
        (self.port,) = free_ports(1)
        self.configuration = configuration
        self._process: subprocess.Popen[bytes] | None = None

    async def start_nats(self) -> None:
        conf = self._write()
        with (self._folder / "own.log").open("ab") as output:
            self._process = launch([nats_server(), "-c", str(conf)], {}, output)
        await asyncio.to_thread(self._until_it_listens, self._process)

    def _write(self) -> Path:
        conf = self._folder / "own.conf"
        own = self.configuration.replace("$STORE", f'"{self._folder}/store"')
        conf.write_text(f'host: "127.0.0.1"\nport: {self.port}\n{own}')
        return conf

    def _until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        for _ in start_attempts(process, "nats-server"):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return

    def reload(self, configuration: str) -> None:
        """Have the running server take another configuration."""
        assert self._process is not None
        self.configuration = configuration
        self._write()
        self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(stop_process, self._process)

    def settings(self, scheme: str = "nats", credentials: str = "", **changes: Any) -> Settings:
        return Settings(port=1, nats_url=f"{scheme}://{credentials}127.0.0.1:{self.port}", **changes)


@contextlib.asynccontextmanager
async def configured(folder: Path, configuration: str) -> AsyncIterator[ConfiguredBroker]:
    broker = ConfiguredBroker(folder, configuration)
    try:
        await broker.start_nats()
        yield broker
    finally:
        await broker.stop()


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[BrokerClient]:
    async with connect(settings, "test", asyncio.Event()) as (nc, _):
        yield nc


async def refused(settings: Settings) -> BrokerError:
    """The error for which there is no connection."""
    try:
        async with connected(settings):
            raise AssertionError("it is connected")
    except BrokerError as error:
        return error


@contextlib.asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    """A server that is none of NATS's, which does this with each connection. Yields its port."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
