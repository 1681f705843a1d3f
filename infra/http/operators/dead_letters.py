"""Dead letters from outside: how many there are, and having them handled again, or dropped, by who parked them."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Protocol

import msgspec
from litestar import Router, get, post
from litestar.params import JSONBody
from msgspec import Meta, Struct
from nats.errors import Error as NatsError

from contracts.wire import NAMES
from infra.broker.connection import describe
from infra.consuming.dead_letter import DeadLetter
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.retry_queue import Redriven, RetryQueue, SessionOver
from infra.core.errors import StoreUnavailable
from infra.http.problems import Problem, problems, unavailable
from infra.store.event_store import StoreError


class Consumer(Protocol):
    """Who hears, and parks what it cannot handle."""

    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def retry_queue(self) -> RetryQueue | None: ...


class Depth(Struct):
    """`oldest`: when the first of the letters was parked. `keys`: orders whose later messages wait behind them."""

    consumer: str
    letters: int
    oldest: datetime | None
    keys: list[str]


class Depths(Struct):
    consumers: list[Depth]


class Recorded(Struct):
    """A fact that was recorded, or would be, and what it says."""

    fact: str
    says: dict[str, Any]


class Outcome(Struct):
    """What became of the letter at this `sequence` of DEAD. `error` null: it is handled and deleted, or would be."""

    sequence: int
    fact_id: str
    subject: str
    recorded: list[Recorded]
    error: str | None


class Outcomes(Struct):
    """In the order of the letters, up to the first that cannot be handled; `left`: letters of the key there are now."""

    outcomes: list[Outcome]
    left: int


Token = Annotated[str, Meta(min_length=1, max_length=256)]


class Redrive(Struct, frozen=True, forbid_unknown_fields=True):
    """`dry_run`: decide, and record nothing."""

    consumer: Token
    key: Token
    dry_run: bool = True


class Drop(Struct, frozen=True, forbid_unknown_fields=True):
    consumer: Token
    key: Token
    sequence: Annotated[int, Meta(ge=1)]


def depth(name: str, letters: DeadLetters) -> Depth:
    return Depth(name, letters.depth, letters.oldest, letters.keys)


def warning(name: str, consumer: Consumer, now: datetime) -> str | None:
    """For `/readyz`; None: all is well."""
    oldest = consumer.dead_letters.oldest
    if oldest is None:
        return None
    age_s = (now - oldest).total_seconds()
    return f"{name} has {consumer.dead_letters.depth} dead letters, the oldest parked {age_s:.0f} s ago (orders dlq ls)"


def dead_letter_routes(consumers: Mapping[str, Consumer]) -> Router:
    @get(
        "/",
        tags=["operators"],
        summary="Messages that could not be handled, and those behind them",
        sync_to_thread=False,
    )
    def show_all() -> Depths:
        return Depths([depth(name, consumer.dead_letters) for name, consumer in consumers.items()])

    @post(
        "/redrive",
        tags=["operators"],
        summary="Handle the letters of a key again, in their order, or see what that would do",
        status_code=200,
        responses=problems(400, 404, 503),
    )
    async def redrive(data: JSONBody[Redrive]) -> Outcomes:
        letters, retry_queue = _of(data.consumer, data.key)
        with _or_unavailable():
            done = await retry_queue.redrive(data.key, dry_run=data.dry_run)
        return Outcomes([_outcome(one) for one in done], len(letters.of(data.key)))

    @post(
        "/drop",
        tags=["operators"],
        summary="Delete a letter unhandled",
        status_code=200,
        responses=problems(400, 404, 503),
    )
    async def drop(data: JSONBody[Drop]) -> Outcomes:
        letters, retry_queue = _of(data.consumer, data.key)
        with _or_unavailable():
            dropped = await retry_queue.drop(data.key, data.sequence)
        if dropped is None:
            raise _unknown(f"{data.key} has no letter {data.sequence}")
        return Outcomes([], len(letters.of(data.key)))

    def _of(name: str, key: str) -> tuple[DeadLetters, RetryQueue]:
        consumer = consumers.get(name)
        if consumer is None:
            raise _unknown(f"there is no consumer {name}; there are: {', '.join(consumers)}")
        if consumer.retry_queue is None:
            raise unavailable("there is no session with the broker")
        if not consumer.dead_letters.has(key):
            raise _unknown(f"{name} has no dead letters of {key}")
        return consumer.dead_letters, consumer.retry_queue

    return Router("/ops/dead-letters", route_handlers=[show_all, redrive, drop])


@contextlib.contextmanager
def _or_unavailable() -> Iterator[None]:
    try:
        yield
    except (SessionOver, StoreUnavailable, StoreError, NatsError, OSError) as error:
        raise unavailable(f"dead letters cannot be handled right now: {describe(error)}") from error


def _unknown(why: str) -> Problem:
    return Problem(404, "dead-letter-not-found", why)


def _outcome(done: Redriven) -> Outcome:
    letter: DeadLetter = done.dead_letter
    return Outcome(
        letter.sequence,
        letter.fact_id,
        letter.subject,
        [Recorded(NAMES[type(fact)], msgspec.to_builtins(fact)) for fact in done.facts],
        None if done.error is None else f"{type(done.error).__name__}: {done.error}",
    )
