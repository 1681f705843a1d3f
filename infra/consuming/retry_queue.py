"""What cannot be handled: tried again a few times, then parked as a dead letter; what is about the same order waits.

Everything of one key is worked off in the order it came, by one task: attempts, parking, and what operators ask for.
Other keys go on meanwhile.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from contracts.fact import Fact
from infra.consuming.dead_letters import DeadLetter, DeadLetters
from infra.core.errors import StoreUnavailable
from infra.core.messages import Delivery
from infra.core.unit_of_work import Outcome

logger = structlog.get_logger()

PAUSES_S: Final = (0.05, 0.2, 0.5)
"""Before each further attempt. While one of them waits, the consumer may deliver so many more as its limit says."""

T = TypeVar("T")


class Redriven(NamedTuple):
    """What became of a letter: the facts that were recorded (none: it had been handled before), or the error."""

    letter: DeadLetter
    facts: Sequence[Fact]
    error: Exception | None


class FailureHandling(NamedTuple):
    """How a consumer's messages are handled one at a time, and where those go that cannot be."""

    letters: DeadLetters
    attempt: Callable[[Delivery], Awaitable[Sequence[Fact]]]
    preview: Callable[[Sequence[Delivery]], Awaitable[list[Outcome]]]


class SessionOver(Exception):
    """The broker went away before it was done; whatever was done is remembered."""


class RetryQueue:
    """One session's. `resolved` is called with what need not be delivered again, `failed` if the session must end."""

    def __init__(
        self, handling: FailureHandling, resolved: Callable[[Delivery], None], failed: Callable[[Exception], None]
    ) -> None:
        self._letters = handling.letters
        self._handling = handling
        self._resolved = resolved
        self._failed = failed
        self._lines: dict[str, deque[Callable[[], Awaitable[None]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: set[asyncio.Future[Any]] = set()

    def takes(self, delivery: Delivery) -> bool:
        """Whether the message has to wait behind others of its key; then it is taken."""
        if not self._lines and self._letters.empty:
            return False
        if delivery.key not in self._lines and not self._letters.has(delivery.key):
            return False
        self._queue(delivery.key, lambda: self._deliver(delivery, None))
        return True

    def rejected(self, delivery: Delivery, error: Exception) -> None:
        """It could not be handled."""
        logger.warning(
            "cannot handle a message; trying again", key=delivery.key, fact_id=delivery.fact_id, exc_info=error
        )
        self._queue(delivery.key, lambda: self._deliver(delivery, error))

    async def redrive(self, key: str, *, dry_run: bool) -> list[Redriven]:
        """Handle the letters of this key in their order, up to the first that still cannot be.

        Each that was handled is deleted; a dry run decides and records nothing. Raises SessionOver, StoreUnavailable,
        the client's errors.
        """
        return await self._ask(key, lambda: self._preview(key) if dry_run else self._redrive(key))

    async def drop(self, key: str, sequence: int) -> DeadLetter | None:
        """Delete this letter of the key unhandled; None: there is none. Raises as `redrive` does."""
        return await self._ask(key, lambda: self._drop(key, sequence))

    def close(self) -> None:
        """The session is over; what waits will be delivered again."""
        for task in self._tasks:
            task.cancel()
        for answer in list(self._answers):
            if not answer.done():
                answer.set_exception(SessionOver("the session with the broker ended"))

    # One key's line ---------------------------------------------------------------------------------------------------

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
            self._failed(error)  # the line stays as it is: nothing of this key may pass until the session ends
        else:
            del self._lines[key]

    async def _ask(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result of some work in this key's line."""
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

    # What may be in it ------------------------------------------------------------------------------------------------

    async def _deliver(self, delivery: Delivery, error: Exception | None) -> None:
        """Attempts, unless letters are before it; `error` is what the first one met, if there was one."""
        attempts = 0 if error is None else 1
        while attempts <= len(PAUSES_S) and not self._letters.has(delivery.key):
            if attempts:
                await asyncio.sleep(PAUSES_S[attempts - 1])
            try:
                await self._handling.attempt(delivery)
            except StoreUnavailable:
                raise
            except Exception as again:  # whatever it is: that is what parking is for
                error = again
                attempts += 1
            else:
                self._resolved(delivery)
                return
        await self._letters.park(delivery, error, attempts)
        self._resolved(delivery)

    async def _redrive(self, key: str) -> list[Redriven]:
        done: list[Redriven] = []
        for letter in self._letters.of(key):
            whole = await self._letters.whole(letter)
            if whole is None:
                continue
            try:
                facts = await self._handling.attempt(whole.delivery)
            except StoreUnavailable:
                raise
            except Exception as error:  # still
                logger.warning(
                    "a dead letter still cannot be handled", key=key, sequence=letter.sequence, exc_info=error
                )
                return [*done, Redriven(whole, (), error)]
            await self._letters.remove(letter)
            logger.info("redriven", key=key, sequence=letter.sequence, fact_id=letter.fact_id, facts=len(facts))
            done.append(Redriven(whole, facts, None))
        return done

    async def _preview(self, key: str) -> list[Redriven]:
        found = [await self._letters.whole(letter) for letter in self._letters.of(key)]
        letters = [letter for letter in found if letter is not None]
        outcomes = await self._handling.preview([letter.delivery for letter in letters])
        return [
            Redriven(letter, (), outcome) if isinstance(outcome, Exception) else Redriven(letter, outcome, None)
            for letter, outcome in zip(letters, outcomes, strict=False)
        ]

    async def _drop(self, key: str, sequence: int) -> DeadLetter | None:
        for letter in self._letters.of(key):
            if letter.sequence == sequence:
                await self._letters.remove(letter)
                logger.warning("dropped a dead letter", key=key, sequence=sequence, fact_id=letter.fact_id)
                return letter
        return None
