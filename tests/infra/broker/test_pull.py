"""A pull that hears nothing ends in time, whatever the clock reads."""

import asyncio
from typing import Final

import pytest

from infra.broker.client import BrokerClient
from infra.broker.errors import ConsumerFailed
from infra.broker.pull import Pull

SILENCE_S: Final = 15.0
ROUNDED: Final = 5.1014
"""A time that, with the silence added and taken away again, leaves less than the silence."""


class _Late:
    """A clock that reads the very time at which the silence has lasted long enough."""

    def time(self) -> float:
        return ROUNDED + SILENCE_S


async def test_silence_ends_a_pull_in_the_moment_in_which_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _Late().time() - ROUNDED < SILENCE_S, "otherwise this shows nothing"
    pull = Pull(
        BrokerClient(), "EVENTS", "point", 8, deliver=lambda *_: None, failed=lambda _: None, silence_s=SILENCE_S
    )
    monkeypatch.setattr(pull, "_loop", _Late())
    monkeypatch.setattr(pull, "_last_sign", ROUNDED)
    pull.wake.set()

    with pytest.raises(ConsumerFailed, match="silent for 15 s"):
        await asyncio.wait_for(pull.sign_of_life(), 5)
