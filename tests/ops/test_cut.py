"""A cut goes as far as the causes of what is within it."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest_asyncio

from contracts.wire import NAMES
from infra.decider import Record
from infra.sqlite import SQLiteStore
from ops.audit.cut import Cut, Logs, moved_to
from tests.audit.paper import History, honest_history


@pytest_asyncio.fixture
async def logs(tmp_path: Path) -> AsyncIterator[tuple[History, Logs]]:
    """The stores of an honest day."""
    history = honest_history()
    async with contextlib.AsyncExitStack() as stack:
        stores = {}
        for name, log in history.logs.items():
            stores[name] = await stack.enter_async_context(SQLiteStore.open(tmp_path / name / "events.sqlite"))
            await stores[name].insert_events(
                [
                    Record(stream, version, NAMES[type(history.fact(f"{stream}@{version}"))], body)
                    for _, stream, version, body in log
                ]
            )
        yield history, stores


def cut_at(**positions: int) -> Cut:
    return Cut(datetime.now(UTC), {"order": 0, "product": 0, "point": 0, "coupon": 0, **positions}, {}, 0, "", 0)


async def test_it_is_moved_to_the_causes_behind_it(logs: tuple[History, Logs]) -> None:
    history, stores = logs
    ends = {name: len(log) for name, log in history.logs.items()}
    one, other = history.id("point.used", "confirmed"), history.id("point.used", "plain")
    position = next(entry.position for entry in history.logs["point"] if f"{entry.stream}@{entry.version}" == other)

    assert await moved_to(stores, cut_at(), [one, other]) == {"point": position}
    assert await moved_to(stores, cut_at(point=position), [one, other]) == {}
    assert await moved_to(stores, cut_at(**ends), [one, other]) == {}


async def test_it_is_not_moved_by_a_cause_that_does_not_exist(logs: tuple[History, Logs]) -> None:
    assert await moved_to(logs[1], cut_at(), ["account-nobody@1", "whatever"]) == {}
