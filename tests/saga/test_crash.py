"""A service killed between any two of its steps, and started again, leaves the same facts, none twice."""

from pathlib import Path

import pytest

from infra.local.services import service_names
from tests.saga.rush import Rush
from tests.shop import background, open_shop


@pytest.mark.parametrize("step", ["recorded", "published", "batch"])
@pytest.mark.parametrize("service", service_names())
async def test_killed(service: str, step: str, tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        rush = Rush(shop, 60)
        await rush.prepare()
        await shop.stop(service)
        shop.env |= {"CRASH_AT": step, "CRASH_AFTER": "3"}
        await shop.start(service, wrapper="crash")
        async with background(rush.place()):
            assert await shop.ended(service) == -9
            await shop.start(service)
        await rush.assert_settled()
