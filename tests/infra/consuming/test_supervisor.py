"""Sessions are counted by how they ended, those of the service and of its read models together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from nats.errors import TimeoutError as NatsTimeout

from infra.aio import Backoff
from infra.broker.errors import BrokerMisconfigured, ConnectionLost
from infra.consuming.dead_letter import ERRORS
from infra.consuming.supervisor import Supervisor
from infra.core.errors import StoreUnavailable
from infra.metrics import Metrics
from infra.process.consumer_gauges import ConsumerGauges
from infra.settings import Settings
from infra.store.errors import StoreError
from infra.timestamps import now
from tests.metrics import exposed, samples


@contextlib.asynccontextmanager
async def connected(*_: Any) -> AsyncIterator[Any]:
    yield SimpleNamespace(denied=[]), asyncio.Event()


async def after_sessions(monkeypatch: pytest.MonkeyPatch, *ends: Exception | None) -> tuple[Supervisor, list[str]]:
    """A supervisor after sessions that ended so, None in good order; and what it said of those that failed."""
    left, said = list(ends), list[str]()
    supervised: Any = SimpleNamespace(session_failed=lambda error, reason, again_in_s: said.append(reason))
    letters: Any = None
    supervisor = Supervisor(
        "point_svc", Settings(port=1), supervised, letters, backoff=Backoff(0.0, 0.0), connect=connected
    )

    async def session_over(_: Any) -> None:
        end = left.pop(0)
        if not left:
            supervisor.stopping.set()
        if end is not None:
            raise end

    monkeypatch.setattr(supervisor, "_session_over", session_over)
    await supervisor.run()
    assert left == []
    return supervisor, said


def outcomes(*supervisors: Supervisor) -> dict[str, float]:
    """What is exported of the sessions of these listeners."""
    metrics = Metrics()
    letters = SimpleNamespace(depth=0, oldest=None, added=dict.fromkeys(ERRORS, 0))
    listeners: Any = {
        str(n): SimpleNamespace(supervisor=one, dead_letters=letters) for n, one in enumerate(supervisors)
    }
    ConsumerGauges(listeners, metrics, now)
    found = [one for one in samples(exposed(metrics)) if one.name == "saga_broker_sessions_total"]
    return {dict(one.labels)["outcome"]: one.value for one in found}


async def test_an_error_that_passes_loses_a_session_and_any_other_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    passing = [ConnectionLost("gone"), NatsTimeout(), OSError(), StoreError("full"), StoreUnavailable("full")]
    others = [BrokerMisconfigured("no stream"), ValueError("a bug")]

    supervisor, said = await after_sessions(monkeypatch, *passing, *others, None)

    assert outcomes(supervisor) == {"ended": 1, "lost": 5, "failed": 2}
    assert len(said) == len(passing) + len(others)
    assert said[-1] == "ValueError: a bug"


async def test_sessions_of_the_service_and_its_read_models_are_counted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, _ = await after_sessions(monkeypatch, None, None)
    view, _ = await after_sessions(monkeypatch, ValueError(), None)

    assert outcomes(service, view) == {"ended": 3, "lost": 0, "failed": 1}
