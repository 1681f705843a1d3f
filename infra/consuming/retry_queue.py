"""The retry queue: a rejected message is tried again a few times; then it becomes a dead letter.

A service's later messages of the same key wait meanwhile; behind a dead letter they become dead letters, too, untried.
One task works off a key in the order of arrival: attempts, storing of a dead letter, and operators' requests. Other
keys go on meanwhile.
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
"""Pauses before attempts 2, 3 and 4. Meanwhile the consumer keeps delivering, up to max_ack_pending."""

ENDED: Final = "the session with the broker ended"

T = TypeVar("T")


class Redriven(NamedTuple):
    """The outcome for a dead letter: `error` if it is rejected again; otherwise it was handled, or would be (dry run).

    `facts` are those that were recorded, or would be: none if the message was handled before, causes no fact, or is
    rejected.
    """

    dead_letter: DeadLetter
    facts: Sequence[Fact]
    error: Exception | None


class SessionOver(Exception):
    """The session with the broker ended before an operator's request was done. A part of it may be done."""


Resolved = Callable[[Delivery], None]
"""Is called with a delivery that was handled or became a dead letter, and so need not come again."""


class RetryQueue:
    """Retries failed deliveries of all consumers of one session, each key in order of arrival.

    Operators' redrives and drops wait in line, too.
    """

    def __init__(
        self,
        handler: Handler,
        dead_letters: DeadLetters,
        failed: Callable[[Exception], None],
        pauses_s: tuple[float, ...] = PAUSES_S,
    ) -> None:
        """`failed` is called with the error if the session must end. `pauses_s`: seconds before each retry."""
        self._handler = handler
        self._dead_letters = dead_letters
        self._failed = failed
        self._pauses_s = pauses_s
        self._lines: dict[str, deque[Callable[[], Awaitable[None]]]] = {}
        """Key → the work that waits for its turn; the first piece of each key is being done."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: set[asyncio.Future[Any]] = set()
        self._closed = False

    def takes(self, delivery: Delivery, resolved: Resolved) -> bool:
        """Queue the message and return true, if its key has dead letters or work in line; otherwise return false.

        False: nothing was done, and the message may be handled at once. `resolved`: see `rejected`.
        """
        if not self._lines and self._dead_letters.empty:
            return False
        if delivery.key not in self._lines and not self._dead_letters.has(delivery.key):
            return False
        self._queue(delivery.key, lambda: self._deliver(delivery, resolved, None))
        return True

    def rejected(self, delivery: Delivery, resolved: Resolved, error: Exception) -> None:
        """Queue a message that the handler has rejected with this error for further attempts, and return at once.

        `resolved` is called once it is handled or a dead letter; never if the session ends before that.
        """
        logger.warning(  # without the traceback: the dead letter has it
            "cannot handle a message; trying again",
            **delivery.log_fields,
            sequence=delivery.position.sequence,
            error=f"{type(error).__name__}: {error}",
        )
        self._queue(delivery.key, lambda: self._deliver(delivery, resolved, error))

    async def redrive(self, key: str, *, dry_run: bool) -> list[Redriven]:
        """Handle the key's dead letters in order, up to the first rejected again, included; return their outcomes.

        Each that was handled is deleted. A dry run decides, but records and deletes nothing. Dead letters that DEAD no
        longer has are left out. Waits for the key's turn. Raises SessionOver; StoreUnavailable, but in a dry run an
        error of the store is an outcome; the client's errors.
        """
        return await self._ask(key, lambda: self._preview(key) if dry_run else self._redrive(key))

    async def drop(self, key: str, sequence: int) -> DeadLetter | None:
        """Delete the key's dead letter with this sequence unhandled; return it, without body and stack, or None.

        None: there is no such dead letter. Waits for the key's turn. Raises SessionOver or the client's errors.
        """
        return await self._ask(key, lambda: self._drop(key, sequence))

    def close(self) -> None:
        """Cancel all work, and take no more; operators' requests that are not done raise SessionOver.

        Messages that wait are not resolved, so the broker delivers them again in the next session.
        """
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for answer in list(self._answers):
            if not answer.done():
                answer.set_exception(SessionOver(ENDED))

    # The line of one key ----------------------------------------------------------------------------------------------

    def _queue(self, key: str, work: Callable[[], Awaitable[None]]) -> None:
        if self._closed:
            return  # the next session gets the message again
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
        """Do this work in its turn in the key's line; return its result, or raise its error or SessionOver."""
        if self._closed:
            raise SessionOver(ENDED)
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

    async def _deliver(self, delivery: Delivery, resolved: Resolved, error: Exception | None) -> None:
        """Try a message until an attempt succeeds; after the last failed attempt, store it as a dead letter.

        If its key has dead letters, it becomes one without another attempt. `error` is that of the first attempt; None
        if the message was not tried yet. Raises StoreUnavailable, ConsumerFailed, the client's errors.
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
                resolved(delivery)
                return
        await self._dead_letters.add(delivery, error, attempts)
        resolved(delivery)
        self._dead_letters.on_given_up(delivery, error, attempts)

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
                logger.warning(
                    "a dead letter still cannot be handled",
                    **dead_letter.delivery.log_fields,
                    dead_letter=sequence,
                    error=f"{type(error).__name__}: {error}",
                )
                return [*done, Redriven(dead_letter, (), error)]
            await self._dead_letters.remove(dead_letter)
            logger.info("redriven", key=key, sequence=sequence, facts=len(facts), **dead_letter.delivery.log_fields)
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
                logger.warning("dropped a dead letter", key=key, sequence=sequence, **dead_letter.delivery.log_fields)
                return dead_letter
        return None
