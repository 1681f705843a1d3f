"""A service killed between any two of its steps, and started again, leaves the same facts, none twice."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest

from infra.local.services import service_names
from tests.saga.rush import Rush
from tests.shop import background, open_shop
from tests.wrappers.crash import STEPS

AT_EVERY_SERVICE: Final = ("recorded", "published", "batch")
ONCE: Final = ("connected", "reset")
"""Steps that a process gets to once, before it is ready."""
AT_THE_FIRST: Final = (*ONCE, "listed")
"""Steps that a short rush may get to once only: the order list writes what has gathered in a quarter of a second."""


def cases() -> Iterator[tuple[str, str]]:
    """Service and step: some steps at every service, the others at one each, in turn."""
    others = cycle(service_names())
    for step in STEPS:
        if step == "listed":
            yield "order", step
        elif step in AT_EVERY_SERVICE:
            yield from ((service, step) for service in service_names())
        else:
            yield next(others), step


@pytest.mark.parametrize(("service", "step"), list(cases()))
async def test_killed(service: str, step: str, tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 60)
        await rush.prepare()
        await shop.stop(service)
        shop.env |= {"CRASH_AT": step, "CRASH_AFTER": "1" if step in AT_THE_FIRST else "3"}
        await shop.start(service, wrapper="crash", ready=step not in ONCE)
        async with background(rush.place()):
            assert await shop.ended(service) == -9, f"it never got to {step}"
            await shop.start(service)
        await rush.assert_settled()
