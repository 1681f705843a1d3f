"""Follows the newest generation of the stream, and those that are made meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, TypeVar

from infra.broker.client import BrokerClient
from infra.broker.generations import generation_numbers

LOOK_EVERY_S: Final = 1.0

T = TypeVar("T")


async def follow(
    nc: BrokerClient, newest: int, read: Callable[[int], AsyncGenerator[T, None]]
) -> AsyncGenerator[T, None]:
    """Yield what `read` yields for the generation with number `newest`, and for each one that is made later.

    Does not end. While services move to a new generation, both get messages: those of one generation come in their
    order, those of two in any order. Raises the errors of `read`, the client's errors.
    """
    come: asyncio.Queue[T] = asyncio.Queue(maxsize=1)
    tasks: list[asyncio.Task[None]] = []

    async def read_on(number: int) -> None:
        async with aclosing(read(number)) as found:
            async for chunk in found:
                await come.put(chunk)

    async def look() -> None:
        known = newest
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for number in await generation_numbers(nc):
                if number > known:
                    known = number
                    tasks.append(asyncio.create_task(read_on(number)))

    tasks += [asyncio.create_task(look()), asyncio.create_task(read_on(newest))]
    getting: asyncio.Task[T] | None = None
    try:
        while True:
            getting = getting or asyncio.create_task(come.get())
            await asyncio.wait([getting, *tasks], return_when=asyncio.FIRST_COMPLETED, timeout=LOOK_EVERY_S)
            for task in tasks:
                if task.done():
                    task.result()
            if getting.done():
                chunk, getting = getting.result(), None
                yield chunk
    finally:
        for task in tasks:
            task.cancel()
        if getting is not None:
            getting.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
