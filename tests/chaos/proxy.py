"""A proxy between a service and the broker: a line that can be cut, held, slowed and narrowed."""

import asyncio
import contextlib
from typing import Final

CHUNK: Final = 16 << 10  # bytes
NARROW: Final = 1 << 10


class Proxy:
    """One service's line. Under every fault the bytes that pass keep their order."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.refusing = False
        self.delay_s = 0.0
        """Seconds that each piece of a stream waits before it passes, in either direction."""
        self.bytes_per_s = 0
        """Bandwidth in bytes a second; 0: unlimited."""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Reset every connection; while the line is `refusing`, new ones too."""
        for writer in self._writers:
            writer.transport.abort()

    def hold(self) -> None:
        """Let nothing pass, without an error at either end."""
        self._flowing.clear()

    def heal(self) -> None:
        self.refusing, self.delay_s, self.bytes_per_s = False, 0.0, 0
        self._flowing.set()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.ExitStack() as stack:
            self._keep(stack, writer)
            if self.refusing:
                return
            with contextlib.suppress(OSError):
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
                self._keep(stack, up_writer)
                pumps = [asyncio.create_task(self._pump(*ends)) for ends in ((reader, up_writer), (up_reader, writer))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)

    def _keep(self, stack: contextlib.ExitStack, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        stack.callback(writer.transport.abort)
        stack.callback(self._writers.discard, writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(NARROW if self.bytes_per_s else CHUNK):
            await self._flowing.wait()
            if self.delay_s or self.bytes_per_s:
                await asyncio.sleep(self.delay_s + (len(data) / self.bytes_per_s if self.bytes_per_s else 0.0))
            writer.write(data)
            await writer.drain()
