"""The search of a log for facts of newer code tells of these, and blames newer code for nothing else."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Literal, cast

import pytest
from structlog.testing import capture_logs

from infra.core.unreadable import UnreadableStreams
from infra.process.newer_facts import NewerFacts
from infra.process.runtime import Runtime
from infra.store.records import Record
from infra.store.sqlite import SQLiteStore
from infra.store.vocabulary import Segment
from tests.infra.broker.mirroring import a_log

NEWER = b'{"type":"point.stolen","at":"2026-03-01T09:30:00Z"}'


@pytest.fixture
async def log() -> AsyncIterator[SQLiteStore]:
    async with a_log() as store:
        yield store


class Closing(asyncio.Event):
    """Is waited for only after the search, which it lets end."""

    async def wait(self) -> Literal[True]:
        return True


async def searched(log: SQLiteStore, unreadable: UnreadableStreams) -> list[tuple[str, str]]:
    """Event and reason of each error that a search of the whole log writes."""
    runtime = SimpleNamespace(store=log, writer=SimpleNamespace(unreadable=unreadable), closing=Closing())
    segment = Segment(0, await log.max_notification_id(), frozenset())
    with capture_logs() as lines:
        await NewerFacts(cast(Runtime, runtime), [segment]).run()
    return [(line["event"], line["reason"]) for line in lines if line["log_level"] == "error"]


async def test_a_fact_of_newer_code_is_told_of(log: SQLiteStore) -> None:
    await log.insert_events([Record("account-ann", 1, "point.stolen", NEWER)])

    ((event, reason),) = await searched(log, UnreadableStreams())

    assert event == "a newer version wrote this log"
    assert "account-ann@1 (point.stolen) at position 1" in reason


@pytest.mark.parametrize("newer", [False, True])
async def test_a_damaged_stream_that_was_read_meanwhile_is_not_blamed_on_newer_code(
    log: SQLiteStore, newer: bool
) -> None:
    unreadable = UnreadableStreams()
    unreadable.add("account-ben", "no JSON", newer=False, log=False)
    await log.insert_events([Record("account-ann", 1, "point.stolen", NEWER)] if newer else [])

    told = await searched(log, unreadable)

    assert len(told) == newer
    assert not any("account-ben" in reason for _, reason in told)
    assert any("account-ben" in warning for warning in unreadable.warnings())
