"""Operators' requests about dead letters are counted by what followed."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from infra.consuming.retry_queue import SessionOver
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


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [(None, b"200", "done"), (SessionOver("ended"), b"503", "unavailable"), (RuntimeError("a bug"), b"500", "error")],
)
async def test_a_redrive_is_counted_by_what_followed(error: Exception | None, status: bytes, outcome: str) -> None:
    consumer: Any = SimpleNamespace(
        dead_letters=SimpleNamespace(has=lambda _: True, of=lambda _: []),
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
