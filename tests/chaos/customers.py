"""Customers of a shop with faults: they repeat requests without an answer, and remember the answers they got.

The orders, the requests and the HTTP are the benchmark's.
"""

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from bench.answers import end
from bench.client import Answer, Broken, Connection
from bench.wares import Request, Wares

PATIENCE_S: Final = 5.0
"""A customer without an answer for this long hangs up and asks again."""
PERSISTENCE_S: Final = 60.0
"""A customer without an answer for this long after everything was healed gives up: his order is stuck."""
PAUSE_S: Final = 0.25  # before a request is repeated; each time twice as long
LONGEST_PAUSE_S: Final = 2.0
HASTE_S: Final = 0.03  # at most, before a customer who hangs up does so

Mood = Literal["plain", "hasty", "half", "twice", "again", "cancels"]
MOODS: Final[tuple[Mood, ...]] = ("plain", "plain", "plain", "hasty", "half", "twice", "again", "cancels")
"""hasty hangs up while the request is worked on, half in the middle of sending it; both come back with the same key.
twice sends it over two connections at once. again asks once more after the end. cancels changes his mind.
"""


class GivenUp(Exception):
    """A customer got no answer for PERSISTENCE_S."""


class _Told(msgspec.Struct):
    order_id: str = ""


@dataclass
class Wish:
    """One order that a customer wants, and the answers he got about it. `ends`: as the benchmark names them."""

    number: int
    mood: Mood
    request: Request
    ids: set[str] = field(default_factory=set)
    ends: list[str] = field(default_factory=list)
    canceled: bool = False
    """Whether he canceled the order and got the answer that it was canceled."""


class Line:
    """One connection to order_svc, for one request at a time."""

    def __init__(self, url: str) -> None:
        self._at = urlsplit(url)
        self._connection: Connection | None = None
        self._answer: asyncio.Future[Answer] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send the request and wait for its answer. Raises Broken."""
        self._answer = asyncio.get_running_loop().create_future()
        try:
            (await self._connected()).send(0, request, perf_counter())
            async with asyncio.timeout(PATIENCE_S):
                return await self._answer
        except OSError as error:  # TimeoutError is one
            raise Broken(str(error)) from error
        finally:
            self.hang_up()

    async def ask_and_leave(self, request: bytes, after_s: float) -> None:
        """Send the request and hang up after `after_s` seconds without its answer."""
        with contextlib.suppress(OSError):
            (await self._connected()).send(0, request, perf_counter())
            await asyncio.sleep(after_s)
        self.hang_up()

    async def _connected(self) -> Connection:
        assert self._at.hostname is not None
        assert self._at.port is not None
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(lambda: Connection(self), self._at.hostname, self._at.port)
        return self._connection

    def hang_up(self) -> None:
        self._answer = None
        if self._connection is not None:
            self._connection.close()

    # Of bench.client.Asker --------------------------------------------------------------------------------------------

    def answered(self, _: Connection, __: int, answer: Answer) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def fail(self, error: Broken) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


class Customers:
    """The customers of one round: their wishes so far, and how often they had to do what."""

    def __init__(self, url: str, wares: Wares, chance: random.Random) -> None:
        self._url = url
        self._wares = wares
        self._chance = chance
        self._healed = asyncio.Event()
        self._until_s = 0.0
        self.wishes: list[Wish] = []
        self.did: Counter[str] = Counter()

    def all_is_healed(self, patience_s: float = PERSISTENCE_S) -> None:
        """From now on customers order nothing more, and expect an answer within this patience."""
        self._until_s = perf_counter() + patience_s
        self._healed.set()

    async def order(self, rate: float) -> None:
        """Place `rate` orders a second until all is healed or the wares are out. Returns when all are answered."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._wares.orders):
                wish = Wish(number, self._chance.choice(MOODS), self._wares.placing(number))
                self.wishes.append(wish)
                group.create_task(self._have(wish))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1 / rate):
                        await self._healed.wait()
                        return

    async def _have(self, wish: Wish) -> None:
        with contextlib.suppress(GivenUp):
            await self._try(wish)

    async def _try(self, wish: Wish) -> None:
        line, request = Line(self._url), wish.request.encode()
        match wish.mood:
            case "hasty":
                await line.ask_and_leave(request, self._chance.uniform(0, HASTE_S))
            case "half":
                await line.ask_and_leave(request[: self._chance.randrange(1, len(request))], 0)
            case "twice":
                await asyncio.gather(self._insist(line, request, wish), self._insist(Line(self._url), request, wish))
        self.did[wish.mood] += 1
        await self._insist(line, request, wish)
        if wish.mood == "again":
            await self._insist(line, request, wish)
        elif wish.mood == "cancels":
            await self._cancel(line, wish)

    async def _insist(self, line: Line, request: bytes, wish: Wish) -> None:
        """Send the request until it has an answer: 200, 202 or 409."""
        answer = await self._until_answered(line, request)
        wish.ends.append(end(answer))
        wish.ids.add(_order_id(answer))

    async def _cancel(self, line: Line, wish: Wish) -> None:
        (order_id,) = wish.ids
        request = Request("order", f"/orders/{order_id}/cancel", {}, user=wish.request.user)
        answer = await self._until_answered(line, request.encode())
        wish.canceled = answer.status == 200

    async def _until_answered(self, line: Line, request: bytes) -> Answer:
        pause_s = PAUSE_S
        while not self._healed.is_set() or perf_counter() < self._until_s:
            try:
                answer = await line.ask(request)
            except Broken:
                self.did["repeated: no answer"] += 1
            else:
                if answer.status != 503:
                    return answer
                self.did["repeated: 503"] += 1
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        raise GivenUp


def _order_id(answer: Answer) -> str:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(answer.body, type=_Told).order_id
    return ""
