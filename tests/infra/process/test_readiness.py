"""Why a service is not ready: the cause, and not what follows from it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from infra.process.readiness import ready_by_reason, why_not_ready
from infra.store.errors import StoreError, StoreSetupError


class Broker:
    """The service's side of the broker, after its session ended; or with a `connection`."""

    def __init__(self, trouble: str | None, *, store_failed: bool = False) -> None:
        self.trouble = trouble
        self.store_failed = store_failed
        self.connection = None if trouble else object()
        self.relay = None
        self.log_lost = self.full = False

    class supervisor:  # noqa: N801 - an attribute
        trouble = None


class Runtime:
    place = "/data/point/events.sqlite"

    def __init__(self, broker: Broker, error: Exception | None) -> None:
        self.broker = broker
        self.store = self
        self._error = error

    async def check(self) -> None:
        if self._error is not None:
            raise self._error


async def reasons(broker: Broker, error: Exception | None) -> list[str]:
    runtime: Any = Runtime(broker, error)
    return await why_not_ready(runtime)


def full(path: Path) -> StoreError:
    """The error of a store whose disk is full, as the store raises it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE one (number)")
        connection.execute("PRAGMA max_page_count = 2")
        try:
            connection.execute("INSERT INTO one VALUES (zeroblob(100000))")
        except sqlite3.OperationalError as cause:
            error = StoreError(cause)
            error.__cause__ = cause
            return error
    raise AssertionError


async def test_a_session_that_ended_with_its_store_is_no_trouble_of_the_broker(tmp_path: Path) -> None:
    broker = Broker("no session with the broker: database or disk is full", store_failed=True)

    (why,) = await reasons(broker, full(tmp_path / "store"))

    assert why == (
        "the store cannot record: database or disk is full. Its disk is full: make room; the store is "
        "/data/point/events.sqlite"
    )
    by_reason: dict[str, bool] = ready_by_reason(broker, records=True)  # type: ignore[arg-type]
    assert [reason for reason, ready in by_reason.items() if not ready] == ["store"]


async def test_both_are_told_if_both_are_wrong() -> None:
    broker = Broker("no session with the broker: it refuses the connection")

    store, of_broker = await reasons(broker, StoreSetupError("its file was replaced. Put it back"))

    assert store == "the store cannot record: its file was replaced. Put it back"
    assert of_broker == broker.trouble


@pytest.mark.parametrize("store_failed", [False, True])
async def test_the_broker_is_told_once_the_store_records_again(store_failed: bool) -> None:
    broker = Broker("no session with the broker: database or disk is full", store_failed=store_failed)

    assert await reasons(broker, None) == [broker.trouble]
    assert await reasons(Broker(None), None) == []
