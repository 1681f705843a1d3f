"""The tables of a read model: what is canceled leaves no transaction open."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from infra.read_models.tables import Checkpoint, Tables
from tests.infra.read_models.test_stream_view import Seen
from tests.shop import attempts


@pytest.mark.parametrize("change", [lambda tables: tables.apply((), Checkpoint(1)), lambda tables: tables.clear()])
async def test_a_transaction_that_is_canceled_before_it_begins_does_not_stay_open(
    tmp_path: Path, change: Callable[[Tables], Awaitable[None]]
) -> None:
    async with Tables.open(Seen(), tmp_path) as tables:
        held, free = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            free.wait()

        busy = asyncio.ensure_future(tables._writer._execute(hold))  # type: ignore[no-untyped-call]
        await asyncio.to_thread(held.wait)
        changing = asyncio.ensure_future(change(tables))
        async for _ in attempts("BEGIN to wait in the connection's queue"):
            if not tables._writer._tx.empty():
                break
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        rolled_back = asyncio.ensure_future(tables.roll_back())
        await asyncio.sleep(0)
        free.set()
        await rolled_back
        await busy

        await tables.apply((), Checkpoint(2))

        assert tables.checkpoint == Checkpoint(2)
