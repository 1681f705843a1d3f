"""`orders stream keeper`: makes the stream's next generation when it is time, and seals those before.

Exit codes: 0 stopped on request, 1 an unexpected error, 2 it cannot start. A keeper stores nothing on its machine: it
may be killed at any moment, and two may run at the same time.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import structlog
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from infra import signals
from infra.aio import Backoff, first_of, wait
from infra.broker.client import BrokerClient
from infra.broker.connection import CONNECT_TIMEOUT_S, Connect, connect
from infra.broker.errors import BrokerError, ConnectionLost
from infra.broker.generations import find_generations
from infra.broker.rolling import Sealing, copy_consumers, due, roll
from infra.broker.troubles import describe
from infra.printable import printable
from infra.process import logging as logs
from infra.redaction import secrets_in
from infra.settings import Settings, SettingsError, load
from infra.timestamps import now
from infra.tuning import prepare_process
from infra.usage import EXIT_USAGE

logger = structlog.get_logger()

LOOK_EVERY_S: Final = 1.0
FIRST_BACKOFF_S: Final = 0.25
LONGEST_BACKOFF_S: Final = 5.0


class Keeper:
    """Makes and seals generations, in one session with the broker after another, until `stopping` is set."""

    def __init__(
        self,
        settings: Settings,
        *,
        sealing: Sealing | None = None,
        clock: Callable[[], datetime] = now,
        connect: Connect = connect,
    ) -> None:
        self._settings = settings
        self._sealing = sealing or Sealing()
        self._clock = clock
        self._connect = connect
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Look once a second until `stopping` is set. After an error of the broker or an OSError, connect anew.

        Raises any other error.
        """
        backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S, chance=random.random)
        while not self.stopping.is_set():
            try:
                async with self._connect(self._settings, "keeper", self.stopping) as (nc, lost):
                    await first_of(self._keep(nc, backoff), _raise_when(lost))
            except (OSError, NatsError, BrokerError) as error:
                if self.stopping.is_set():
                    return
                logger.warning("the generations are not kept now", reason=describe(error))
                await wait(self.stopping, backoff.next_s())

    async def _keep(self, nc: BrokerClient, backoff: Backoff) -> None:
        logger.info("keeping the generations of the stream")
        while not self.stopping.is_set():
            await self.look(nc)
            backoff.reset()
            await wait(self.stopping, LOOK_EVERY_S)

    async def look(self, nc: BrokerClient) -> None:
        """Make the next generation if due; else copy consumers to the newest one, and seal older quiet ones.

        The copied consumers are those of the generation before the newest, until that is sealed. Sealing also lowers
        the limits of sealed ones (`Sealing.look`). A step in which an earlier keeper was killed is done again. Does
        nothing while there is no generation. Raises StreamMisconfigured, the client's errors.
        """
        js = nc.jetstream(timeout=CONNECT_TIMEOUT_S)
        try:
            infos = await find_generations(nc, js)
        except NotFoundError:
            return  # no service has made the first one yet
        if why := due(infos[-1], self._settings, self._clock()):
            await roll(nc, js, self._settings, why)
            return
        if len(infos) > 1 and not infos[-2].config.sealed:
            await copy_consumers(js, infos[-2], infos[-1])
        await self._sealing.look(js, infos, asyncio.get_running_loop().time())


async def _raise_when(lost: asyncio.Event) -> None:
    await lost.wait()
    raise ConnectionLost("connection lost")


async def _until_signal(settings: Settings) -> None:
    keeper = Keeper(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, keeper.stopping.set)
    signals.release()
    await keeper.run()
    logger.info("stopped")


def run(env: Mapping[str, str]) -> None:
    """Run a Keeper until SIGTERM or SIGINT, then return. Raises SettingsError."""
    settings = load(Settings, "nats", 4_222, env)
    prepare_process()
    secrets = secrets_in(settings.nats_url.split(","))
    handler = logs.configure("keeper", settings.log_level, settings.log_format, secrets)
    try:
        asyncio.run(_until_signal(settings))
    finally:
        handler.flush()


def main() -> None:
    try:
        run(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"the keeper cannot start: {printable(str(error))}\n")
        raise SystemExit(EXIT_USAGE) from None


if __name__ == "__main__":
    main()
