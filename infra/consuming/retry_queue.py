"""The retry queue: a rejected message is tried again a few times; then it becomes a dead letter.

Messages of the same key wait behind it. One task works off a key in the order of arrival: attempts, dead letters, and
operators' requests. Other keys go on meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from contracts.fact import Fact
from infra.consuming.dead_letter import DeadLetter
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.handler import Handler
from infra.core.errors import StoreUnavailable
from infra.core.messages import Delivery

logger = structlog.get_logger()

PAUSES_S: Final = (0.05, 0.2, 0.5)
"""Delays before attempts 2 to 4. Meanwhile the consumer keeps delivering, up to max_ack_pending."""

T = TypeVar("T")


class Redriven(NamedTuple):
    """The outcome for a dead letter: the facts that were recorded (none: it had been handled before), or the error."""

    dead_letter: DeadLetter
    facts: Sequence[Fact]
    error: Exception | None


class SessionOver(Exception):
    """The session with the broker ended before the request was done. Work done until then is kept."""


class RetryQueue:
    """Retries one session's failed deliveries by key, in order. Operators' redrives and drops take their turn there."""

    def __init__(
        self,
        handler: Handler,
        dead_letters: DeadLetters,
        resolved: Callable[[Delivery], None],
        failed: Callable[[Exception], None],
        pauses_s: tuple[float, ...] = PAUSES_S,
    ) -> None:
        """`resolved` is called with a message that need not be delivered again; `failed` if the session must end."""
        self._handler = handler
        self._dead_letters = dead_letters
        self._resolved = resolved
        self._failed = failed
        self._pauses_s = pauses_s
        self._lines: dict[str, deque[Callable[[], Awaitable[None]]]] = {}
        """By key, the work that waits for its turn; the first piece of each is being done."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: set[asyncio.Future[Any]] = set()

    def takes(self, delivery: Delivery) -> bool:
        """Whether the message has to wait behind others of its key. If so, it is in the queue now."""
        if not self._lines and self._dead_letters.empty:
            return False
        if delivery.key not in self._lines and not self._dead_letters.has(delivery.key):
            return False
        self._queue(delivery.key, lambda: self._deliver(delivery, None))
        return True

    def rejected(self, delivery: Delivery, error: Exception) -> None:
        """Try a message again that the handler has rejected with this error."""
        logger.warning(
            "cannot handle a message; trying again", key=delivery.key, fact_id=delivery.fact_id, exc_info=error
        )
        self._queue(delivery.key, lambda: self._deliver(delivery, error))

    async def redrive(self, key: str, *, dry_run: bool) -> list[Redriven]:
        """Handle the dead letters of this key in their order, up to the first that is rejected again.

        Each that was handled is deleted. A dry run decides and records nothing. Raises SessionOver, StoreUnavailable,
        the client's errors.
        """
        return await self._ask(key, lambda: self._preview(key) if dry_run else self._redrive(key))

    async def drop(self, key: str, sequence: int) -> DeadLetter | None:
        """Delete the key's dead letter with this sequence unhandled and return it; None if there is none.

        Raises SessionOver or the client's errors.
        """
        return await self._ask(key, lambda: self._drop(key, sequence))

    def close(self) -> None:
        """The session is over; messages that wait will be delivered again."""
        for task in self._tasks:
            task.cancel()
        for answer in list(self._answers):
            if not answer.done():
                answer.set_exception(SessionOver("the session with the broker ended"))

    # The line of one key ----------------------------------------------------------------------------------------------

    def _queue(self, key: str, work: Callable[[], Awaitable[None]]) -> None:
        if key in self._lines:
            self._lines[key].append(work)
            return
        self._lines[key] = deque([work])
        task = asyncio.create_task(self._work_off(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work_off(self, key: str) -> None:
        line = self._lines[key]
        try:
            while line:
                await line[0]()
                line.popleft()
        except Exception as error:
            self._failed(error)  # the line is kept: no message of this key may pass until the session ends
        else:
            del self._lines[key]

    async def _ask(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do this work in its turn in the key's line; return its result."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def answered() -> None:
            try:
                result = await work()
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)
        self._queue(key, answered)
        return await answer

    # The work in a line -----------------------------------------------------------------------------------------------

    async def _deliver(self, delivery: Delivery, error: Exception | None) -> None:
        """Try a message until an attempt succeeds; after the last one it becomes a dead letter.

        Behind dead letters of its key it becomes one without another attempt. `error`: that of an attempt before.
        """
        attempts = 0 if error is None else 1
        while attempts <= len(self._pauses_s) and not self._dead_letters.has(delivery.key):
            if attempts:
                await asyncio.sleep(self._pauses_s[attempts - 1])
            try:
                await self._handler.attempt(delivery)
            except StoreUnavailable:
                raise
            except Exception as again:  # any error of the handler makes a dead letter in the end
                error = again
                attempts += 1
            else:
                self._resolved(delivery)
                return
        await self._dead_letters.add(delivery, error, attempts)
        self._resolved(delivery)

    async def _redrive(self, key: str) -> list[Redriven]:
        done: list[Redriven] = []
        for listed in self._dead_letters.of(key):
            dead_letter = await self._dead_letters.load(listed)
            if dead_letter is None:
                continue
            sequence = dead_letter.sequence
            try:
                facts = await self._handler.attempt(dead_letter.delivery)
            except StoreUnavailable:
                raise
            except Exception as error:
                logger.warning("a dead letter still cannot be handled", key=key, sequence=sequence, exc_info=error)
                return [*done, Redriven(dead_letter, (), error)]
            await self._dead_letters.remove(dead_letter)
            logger.info("redriven", key=key, sequence=sequence, fact_id=dead_letter.fact_id, facts=len(facts))
            done.append(Redriven(dead_letter, facts, None))
        return done

    async def _preview(self, key: str) -> list[Redriven]:
        loaded = [await self._dead_letters.load(listed) for listed in self._dead_letters.of(key)]
        dead_letters = [dead_letter for dead_letter in loaded if dead_letter is not None]
        outcomes = await self._handler.preview([dead_letter.delivery for dead_letter in dead_letters])
        return [
            Redriven(dead_letter, (), outcome)
            if isinstance(outcome, Exception)
            else Redriven(dead_letter, outcome, None)
            for dead_letter, outcome in zip(dead_letters, outcomes, strict=False)
        ]

    async def _drop(self, key: str, sequence: int) -> DeadLetter | None:
        for dead_letter in self._dead_letters.of(key):
            if dead_letter.sequence == sequence:
                await self._dead_letters.remove(dead_letter)
                logger.warning("dropped a dead letter", key=key, sequence=sequence, fact_id=dead_letter.fact_id)
                return dead_letter
        return None
