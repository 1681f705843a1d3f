"""Redrives dead letters: asks their services for a preview, or for the redrive, key by key; keeps the outcomes.

A redrive is an operation with an id, so a second click begins no second one. The dashboard's log has its reason, the
outcome of each key that was begun, and the number of keys that were not. For a dead letter that fails again, the stream
DEAD has the reason, too.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

import httpx
import structlog

from infra.http.operators.dead_letter_bodies import RedriveOutcomes
from infra.timestamps import now
from ops.client import GOOD, ServiceAddress, problem, send_with
from ops.dashboard.dead_letter_groups import DeadLetterKey
from ops.dashboard.sessions import Operator
from ops.dlq.dead_letters import TIMEOUT_S, outcomes, redrive_body, service_of, service_request
from ops.errors import Unreachable

logger = structlog.get_logger()

MOST_KEPT: Final = 100
AT_ONCE: Final = 8
"""Keys whose preview is asked for at the same time."""

KeyState = Literal["waits", "runs", "done", "fails", "stopped", "unknown"]


class KeyOutcome(NamedTuple):
    """What a redrive did, or would do, with the dead letters of one key.

    `facts`: pairs of a dead letter's sequence of DEAD and the names of the facts that it led to, as one text, or
    `nothing new`; one that failed is not in it. `left`: how many dead letters of the key remain, as the service says;
    0 without its outcomes. `preview`: the hash of a preview's outcomes; else empty. `why`: in words, for the states
    `fails` and `unknown` (no usable answer came); else empty.
    """

    key: DeadLetterKey
    state: KeyState = "waits"
    facts: Sequence[tuple[int, str]] = ()
    why: str = ""
    left: int = 0
    preview: str = ""


class Redriver:
    """Asks services about dead letters."""

    def __init__(self, http: httpx.AsyncClient, services: Mapping[str, ServiceAddress]) -> None:
        self._http = http
        self._services = services

    async def preview(self, keys: Sequence[DeadLetterKey], by: Operator | None = None) -> list[KeyOutcome]:
        """Return what a redrive would do with each key, in the order of `keys`; nothing is changed.

        Up to AT_ONCE (8) keys are asked for at the same time. Once a service gave no usable answer, no
        further key of its consumers is asked for: the state of the others is `unknown`, too. `by`: see `ask`.
        """
        gate = asyncio.Semaphore(AT_ONCE)
        away: dict[str, str] = {}

        async def one(key: DeadLetterKey) -> KeyOutcome:
            async with gate:
                service = service_of(key.consumer)
                if service in away:
                    return KeyOutcome(key, "unknown", why=f"not asked: {away[service]}")
                outcome = await self.ask(key, dry_run=True, by=by)
                if outcome.state == "unknown":
                    away[service] = outcome.why
                return outcome

        return list(await asyncio.gather(*map(one, keys)))

    async def ask(
        self, key: DeadLetterKey, *, dry_run: bool, reason: str = "", preview: str = "", by: Operator | None = None
    ) -> KeyOutcome:
        """Ask the key's service to handle its dead letters again; with `dry_run` only to decide, recording nothing.

        `preview`: the redrive is refused if it would do something else than the preview with this hash said; empty: it
        is not. It is asked with the token of `by`; None: as the dashboard itself, where nobody has to sign in.
        Raises nothing if the service is away: the state is then `unknown`.
        """
        body = redrive_body(key.consumer, key.key, dry_run=dry_run, reason=reason, preview=preview)
        request = service_request(self._services, key.consumer, "redrive", body)
        if request is None:
            return KeyOutcome(key, "fails", why=f"this checkout has no service of the consumer {key.consumer}")
        if by is not None:
            request = request._replace(headers={"Authorization": f"Bearer {by.token}"})
        try:
            answer = await send_with(self._http, request, TIMEOUT_S)
            if answer.status not in GOOD:
                return KeyOutcome(key, "fails", why=problem(answer))
            return _outcome(key, outcomes(request, answer))
        except Unreachable as error:
            return KeyOutcome(key, "unknown", why=str(error))


def _outcome(key: DeadLetterKey, done: RedriveOutcomes) -> KeyOutcome:
    facts = [
        (one.sequence, ", ".join(recorded.fact for recorded in one.recorded) or "nothing new")
        for one in done.outcomes
        if one.error is None
    ]
    why = next((f"{one.sequence}: {one.error}" for one in done.outcomes if one.error is not None), "")
    return KeyOutcome(key, "fails" if why else "done", facts, why, done.left, done.preview)


class Operation:
    """One redrive of several keys, one after another. `stopping`: no further key is begun."""

    def __init__(
        self, its_id: str, reason: str, keys: Sequence[DeadLetterKey], at: datetime, by: Operator | None = None
    ) -> None:
        """`by`: who has asked for it; None: nobody has to sign in."""
        self.previews: Mapping[DeadLetterKey, str] = {}
        """The hashes of the previews that were seen, of the keys that have one."""
        self.id = its_id
        self.reason = reason
        self.at = at
        self.by = by
        self.outcomes = {key: KeyOutcome(key) for key in keys}
        self.stopping = False
        self.changes = 0
        """Rises with each change of the outcomes."""

    @property
    def over(self) -> bool:
        return not any(one.state in ("waits", "runs") for one in self.outcomes.values())

    def put(self, outcome: KeyOutcome) -> None:
        self.outcomes[outcome.key] = outcome
        self.changes += 1

    @property
    def summary(self) -> str:
        """Say how many keys are in which state."""
        states = [one.state for one in self.outcomes.values()]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


class Operations:
    """Keeps the operations of this process: all that run, and the newest of those that are over.

    That makes at most MOST_KEPT (100) in all, or as many as run.
    """

    def __init__(self, redriver: Redriver, clock: Callable[[], datetime] = now) -> None:
        self._redriver = redriver
        self._clock = clock
        self._known: dict[str, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def newest(self) -> list[Operation]:
        return list(reversed(self._known.values()))

    def get(self, its_id: str) -> Operation | None:
        return self._known.get(its_id)

    def begin(
        self,
        its_id: str,
        reason: str,
        keys: Sequence[DeadLetterKey],
        previews: Mapping[DeadLetterKey, str] = MappingProxyType({}),
        by: Operator | None = None,
    ) -> Operation:
        """Begin an operation, and return it. If the id is known, nothing begins, and its operation is returned.

        `previews`: the hashes of the previews that were seen, of the keys that have one.
        """
        if its_id not in self._known:
            operation = self._known[its_id] = Operation(its_id, reason, keys, self._clock(), by)
            operation.previews = previews
            over = [one.id for one in self._known.values() if one.over]
            for dropped in over[: max(0, len(self._known) - MOST_KEPT)]:
                del self._known[dropped]
            task = asyncio.create_task(self._run(operation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return operation
        return self._known[its_id]

    async def close(self) -> None:
        """Stop all operations, and wait for the keys that are being redriven."""
        for operation in self._known.values():
            operation.stopping = True
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, operation: Operation) -> None:
        about = {"operation": operation.id, "reason": operation.reason}
        if operation.by is not None:
            about["by"] = operation.by.caller.subject
        logger.info("redrive asked for", keys=len(operation.outcomes), **about)
        for key in list(operation.outcomes):
            if operation.stopping:
                operation.put(KeyOutcome(key, "stopped"))
                continue
            operation.put(KeyOutcome(key, "runs"))
            seen, by = operation.previews.get(key, ""), operation.by
            outcome = await self._redriver.ask(key, dry_run=False, reason=operation.reason, preview=seen, by=by)
            operation.put(outcome)
            told = {"consumer": key.consumer, "key": key.key, "state": outcome.state, "why": outcome.why}
            logger.info("redriven", unlimited=True, **told, **about)
        logger.info("redrive is over", states=operation.summary, **about)
