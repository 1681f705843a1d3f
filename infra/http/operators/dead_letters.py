"""Operators' routes for dead letters: count them by consumer and list their keys, redrive those of a key, drop one."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

import msgspec
from litestar import Router, get, post
from litestar.params import JSONBody

from contracts.wire import NAMES
from infra.auth.principal import OPS_READ, OPS_REDRIVE
from infra.broker.troubles import denied
from infra.consuming.dead_letter import DeadLetter
from infra.consuming.dead_letter_message import error_text
from infra.consuming.dead_letters import DeadLetters
from infra.consuming.retry_queue import Redriven, RetryQueue
from infra.consuming.supervisor import Supervisor
from infra.counts import count_of
from infra.http.access import ACCESS
from infra.http.answers import problems
from infra.http.operators.action_log import ActionLog, noted
from infra.http.operators.dead_letter_actions import actions, count_action
from infra.http.operators.dead_letter_bodies import (
    Depth,
    Depths,
    Drop,
    Recorded,
    Redrive,
    RedriveOutcome,
    RedriveOutcomes,
)
from infra.http.operators.preview import preview_changed, preview_hash
from infra.http.parameters import AnyRequest
from infra.http.problems import Problem, unavailable
from infra.metrics import Metrics
from infra.request_span import request_is_about


class Consumer(Protocol):
    """A listener (a service or a read model), as these routes need it: dead letters, and the supervisor of sessions."""

    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def supervisor(self) -> Supervisor: ...


def depth(name: str, letters: DeadLetters) -> Depth:
    return Depth(name, letters.depth, letters.oldest, letters.keys)


def warnings_of(name: str, consumer: Consumer, now: datetime) -> Iterator[str]:
    """Yield this consumer's warnings for `/readyz`: no session or a pause, a denied request, dead letters."""
    if trouble := consumer.supervisor.trouble:
        yield f"{name} consumes nothing: {trouble}"
    if consumer.supervisor.denied:
        yield f"{name}: {denied(consumer.supervisor.denied)}"
    oldest = consumer.dead_letters.oldest
    if oldest is None:
        return
    age_s = max(0.0, (now - oldest).total_seconds())
    letters = count_of(consumer.dead_letters.depth, "dead letter")
    yield f"{name} has {letters}, the oldest for {age_s:.0f} s; list them with `just dlq ls`"


def dead_letter_routes(consumers: Mapping[str, Consumer], metrics: Metrics, log: ActionLog | None = None) -> Router:
    counted = partial(count_action, actions(metrics))

    @get(
        "/",
        tags=["operators"],
        summary="Dead letters: messages that could not be handled, and later ones of the same key",
        opt={ACCESS: OPS_READ},
        sync_to_thread=False,
    )
    def show_all() -> Depths:
        return Depths([depth(name, consumer.dead_letters) for name, consumer in consumers.items()])

    @post(
        "/redrive",
        tags=["operators"],
        summary="Redrive: handle the dead letters of a key again in sequence, or preview it",
        opt={ACCESS: OPS_REDRIVE},
        status_code=200,
        responses=problems(400, _unknown("stock has no dead letters of k1"), preview_changed(), 503),
    )
    async def redrive(data: JSONBody[Redrive], request: AnyRequest) -> RedriveOutcomes:
        action, target = "preview" if data.dry_run else "redrive", {"consumer": data.consumer, "key": data.key}
        async with noted(log, request, action, target, reason=data.reason.strip(), preview=data.preview) as running:
            with counted(action) as outcomes:
                told = await _redrive(consumers, data)
                outcomes += ["fails" for one in told.outcomes if one.error is not None]
                running.outcome = "fails" if outcomes else "done"
                return told

    @post(
        "/drop",
        tags=["operators"],
        summary="Delete a dead letter without handling it",
        opt={ACCESS: OPS_REDRIVE},
        status_code=200,
        responses=problems(400, _unknown("stock has no dead letters of k1"), 503),
    )
    async def drop(data: JSONBody[Drop], request: AnyRequest) -> RedriveOutcomes:
        target = {"consumer": data.consumer, "key": data.key, "sequence": data.sequence}
        async with noted(log, request, "drop", target):
            with counted("drop"):
                return await _drop(consumers, data)

    return Router("/ops/dead-letters", route_handlers=[show_all, redrive, drop])


async def _redrive(consumers: Mapping[str, Consumer], data: Redrive) -> RedriveOutcomes:
    letters, retry_queue = _find(consumers, data.consumer, data.key)
    if data.preview and not data.dry_run:
        found = [_outcome(one) for one in await retry_queue.redrive(data.key, dry_run=True)]
        if _previewed(found) != data.preview:
            raise preview_changed()
    done = await retry_queue.redrive(data.key, dry_run=data.dry_run)
    told = [_outcome(one) for one in done]
    if not data.dry_run:
        await _note(letters, data, done, told)
    return RedriveOutcomes(told, len(letters.of(data.key)), _previewed(told) if data.dry_run else "")


async def _drop(consumers: Mapping[str, Consumer], data: Drop) -> RedriveOutcomes:
    letters, retry_queue = _find(consumers, data.consumer, data.key)
    dropped = await retry_queue.drop(data.key, data.sequence)
    if dropped is None:
        raise _unknown(f"{data.key} has no dead letter with sequence {data.sequence}")
    if not letters.of(data.key):
        await letters.note_redrive(data.key, None, "", "")
    return RedriveOutcomes([], len(letters.of(data.key)))


def _previewed(outcomes: Sequence[RedriveOutcome]) -> str:
    return preview_hash((one.sequence, [fact.fact for fact in one.recorded], one.error) for one in outcomes)


async def _note(letters: DeadLetters, asked: Redrive, done: Sequence[Redriven], told: Sequence[RedriveOutcome]) -> None:
    """Note which dead letter failed again, its error, and the operator's reason for the redrive.

    If none failed and the key has no dead letters any more, forget what was noted of the key.
    """
    for one, outcome in zip(done, told, strict=True):
        if outcome.error is not None:
            await letters.note_redrive(asked.key, one.dead_letter, outcome.error, asked.reason.strip())
            return
    if not letters.of(asked.key):
        await letters.note_redrive(asked.key, None, "", "")


def _find(consumers: Mapping[str, Consumer], name: str, key: str) -> tuple[DeadLetters, RetryQueue]:
    """Return the dead letters and the retry queue of the consumer `name`; tell tracing that the request is about `key`.

    Raises Problem: 404 without such a consumer or dead letters of the key, 503 without a session with the broker.
    """
    consumer = consumers.get(name)
    if consumer is None:
        raise _unknown(f"there is no consumer {name}; there are: {', '.join(consumers)}")
    retry_queue = consumer.supervisor.retry_queue
    if retry_queue is None:
        raise unavailable("the service has no session with the broker; retry after the given delay")
    if not consumer.dead_letters.has(key):
        raise _unknown(f"{name} has no dead letters of {key}")
    request_is_about(key, apart=True)
    return consumer.dead_letters, retry_queue


def _unknown(why: str) -> Problem:
    return Problem(404, "dead-letter-not-found", why)


def _outcome(done: Redriven) -> RedriveOutcome:
    letter: DeadLetter = done.dead_letter
    return RedriveOutcome(
        letter.sequence,
        letter.fact_id,
        letter.subject,
        [Recorded(NAMES[type(fact)], msgspec.to_builtins(fact)) for fact in done.facts],
        None if done.error is None else error_text(done.error).encode(errors="backslashreplace").decode(),
    )
