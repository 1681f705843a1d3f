"""What deadlines do while the order list cannot be read."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from infra.read_models.tables import ViewBehind
from order_svc.deadlines import Deadlines
from order_svc.listing import Listing


class Broken:
    def __init__(self) -> None:
        self.asked = 0

    async def select(self, _: str) -> Any:
        self.asked += 1
        raise ViewBehind("its file is damaged")


async def test_a_list_that_cannot_be_read_is_not_asked_in_every_turn_of_the_loop() -> None:
    view = Broken()
    runtime: Any = SimpleNamespace(views={Listing.name: view})

    loading = asyncio.create_task(Deadlines(runtime)._load())
    for _ in range(100):
        await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading

    assert view.asked == 1
