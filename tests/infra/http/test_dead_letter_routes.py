"""Operators' requests about dead letters are counted by what followed."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from infra.consuming.dead_letter import DeadLetter
from infra.consuming.retry_queue import Redriven, SessionOver
from infra.core.messages import StreamPosition
from infra.http.operators.dead_letters import dead_letter_routes
from infra.metrics import Metrics
from tests.infra.http.wire import answers, question, serving
from tests.metrics import exposed, value


class Queue:
    """A retry queue whose redrives raise this; None: they have nothing to do."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def redrive(self, _key: str, *, dry_run: bool) -> list[Any]:
        if self._error is not None and not dry_run:
            raise self._error
        return []


def noted(notes: list[tuple[Any, ...]]) -> Any:
    async def note_redrive(*note: Any) -> None:
        notes.append(note)

    return note_redrive


class Rejecting(Queue):
    """A retry queue whose second dead letter is rejected again."""

    async def redrive(self, _key: str, *, dry_run: bool) -> list[Any]:
        return [Redriven(letter(1), (), None), Redriven(letter(2), (), ValueError("no"))]


def letter(sequence: int) -> DeadLetter:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    return DeadLetter(sequence, "stock", "k1", at, 4, "no", "", "s", "k1@1", StreamPosition(1, 0), b"", b"")


@pytest.mark.parametrize(
    ("asked", "notes"),
    [
        ({"dry_run": False, "reason": " mended "}, [("k1", letter(2), "ValueError: no", "mended")]),
        ({"dry_run": False}, [("k1", letter(2), "ValueError: no", "")]),
        ({"dry_run": True, "reason": "x"}, []),
    ],
)
async def test_what_is_redriven_in_vain_is_noted_with_the_reason(
    asked: dict[str, Any], notes: list[tuple[Any, ...]]
) -> None:
    found: list[tuple[Any, ...]] = []
    consumer: Any = SimpleNamespace(
        dead_letters=SimpleNamespace(has=lambda _: True, of=lambda _: [letter(2)], note_redrive=noted(found)),
        supervisor=SimpleNamespace(retry_queue=Rejecting(None)),
    )
    body = msgspec.json.encode({"consumer": "stock", "key": "k1", **asked})
    said = question(
        body, b"Content-Length: %d" % len(body), b"Connection: close", line=b"POST /ops/dead-letters/redrive HTTP/1.1"
    )

    async with serving(dead_letter_routes({"stock": consumer}, Metrics())) as port:
        ((answered, _, _),) = await answers(port, said)

    assert answered.split()[1] == b"200"
    assert found == notes


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [(None, b"200", "done"), (SessionOver("ended"), b"503", "unavailable"), (RuntimeError("a bug"), b"500", "error")],
)
async def test_a_redrive_is_counted_by_what_followed(error: Exception | None, status: bytes, outcome: str) -> None:
    consumer: Any = SimpleNamespace(
        dead_letters=SimpleNamespace(has=lambda _: True, of=lambda _: [], note_redrive=noted([])),
        supervisor=SimpleNamespace(retry_queue=Queue(error)),
    )
    metrics = Metrics()
    body = msgspec.json.encode({"consumer": "stock", "key": "k1", "dry_run": False})
    said = question(
        body, b"Content-Length: %d" % len(body), b"Connection: close", line=b"POST /ops/dead-letters/redrive HTTP/1.1"
    )

    async with serving(dead_letter_routes({"stock": consumer}, metrics)) as port:
        ((answered, _, _),) = await answers(port, said)

    assert answered.split()[1] == status
    name = "saga_dead_letter_actions_total"
    assert value(exposed(metrics), name, action="redrive", outcome=outcome) == 1
    assert value(exposed(metrics), name) == 1
