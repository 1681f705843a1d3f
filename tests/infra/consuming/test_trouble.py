"""Why a service is not ready names the cause and the next step, also while the next session has only begun."""

from types import SimpleNamespace
from typing import Any

import pytest
from nats.js.api import StreamInfo, StreamState

from infra.broker.errors import RelayFailed
from infra.broker.streams import full, stream_config
from infra.broker.troubles import UNACKNOWLEDGED
from infra.consuming.session import Broker
from infra.settings import Settings
from infra.timestamps import now


@pytest.fixture
def broker() -> Any:
    """In a session that has just begun, with a connection and no trouble of its consumer."""
    writer: Any = SimpleNamespace(suspend=lambda _: None)
    store: Any = None
    connect: Any = None
    made: Any = Broker("point", (), Settings(port=1), store, writer, clock=now, connect=connect, chance=lambda: 0.5)
    made.supervisor._current = (object(), SimpleNamespace(paused=None))
    made._relay = SimpleNamespace(has_caught_up=False, stalled=False)
    return made


def test_the_cause_of_the_session_before_stays_until_the_relay_has_caught_up(broker: Any) -> None:
    assert broker.trouble == "the relay has not caught up with the log"
    reason = f"no acknowledgement from the broker for 5.0 s. {UNACKNOWLEDGED}"

    broker.session_failed(RelayFailed(reason), reason, 1.0)

    assert broker.trouble == f"the relay has not caught up with the log; the session before it ended: {reason}"
    assert "make room and restart the broker" in broker.trouble
    broker._relay.has_caught_up = True
    assert broker.trouble is None


def test_a_broker_that_acknowledges_nothing_is_named_with_the_next_step(broker: Any) -> None:
    for caught_up in (False, True):
        broker._relay = SimpleNamespace(has_caught_up=caught_up, stalled=True)
        assert broker.trouble == f"the broker is not acknowledging facts. {UNACKNOWLEDGED}"


def test_a_full_stream_is_named_with_the_command_that_raises_its_limit(broker: Any) -> None:
    broker._full = full(StreamInfo(stream_config(Settings(port=1)), StreamState(0, 0, 0, 0, 0)))

    assert "the stream EVENTS is full" in broker.trouble
    assert "nats stream edit EVENTS --max-bytes=" in broker.trouble
