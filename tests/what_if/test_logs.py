"""History from the services' own stores, beside services that still answer."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from contracts.wire import decode
from infra.core.writer import Clock
from infra.store.records import Notification, Record
from infra.store.sqlite import SQLiteStore
from infra.timestamps import now
from ops.errors import Unreachable
from ops.what_if import logs
from ops.what_if.command import codes
from ops.what_if.difference import id_of
from ops.what_if.report import WhatIfReport, decide_again
from tests.what_if.recorded import logs_of, recorded, verdict

CODES = [code for code in codes() if code.name in recorded().ends]
"""Of the services that the recorded history has: a newer one has answered nothing there."""

OWNERS = {category: code.name for code in codes() for category in code.aggregates}


async def record(folder: Path, said: Mapping[str, Sequence[Notification]]) -> dict[str, str]:
    """Put these records into stores below this folder; the environment that names them."""
    for name in said.keys() | {code.name for code in codes()}:
        log = said.get(name, ())
        async with SQLiteStore.open(folder / name / "events.sqlite") as store:
            if log:
                await store.insert_events([Record(*one[1:]) for one in log])
    return {"DATA_DIR": str(folder)}


async def verdict_of(env: Mapping[str, str], clock: Clock = now) -> WhatIfReport:
    async with logs.opened(env, OWNERS, clock) as opened:
        return await decide_again(opened, CODES)


async def test_stores_are_judged_as_the_file_is(tmp_path: Path) -> None:
    said = await logs_of(recorded())

    by_stores = (await verdict_of(await record(tmp_path, said))).services
    assert {name: by_stores[name] for name in said} == (await verdict(said, CODES)).services


@pytest.mark.parametrize(
    ("age_s", "waits_s"),
    [
        (0.0, logs.SETTLE_S),
        (0.5, logs.SETTLE_S - 0.5),
        (logs.SETTLE_S, 0.0),
        (86_400.0, 0.0),
        (-86_400.0, logs.SETTLE_S),
    ],
)
async def test_what_was_said_last_gets_its_time_to_be_answered(
    age_s: float, waits_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = await logs_of(recorded())
    answer = said["coupon"].pop()
    env = await record(tmp_path, said)
    said_last = max(decode(log[-1].state).at for log in said.values())
    waited: list[float] = []

    async def answered_meanwhile(seconds: float) -> None:
        waited.append(seconds)
        if seconds:
            await record(tmp_path, {"coupon": [answer]})

    monkeypatch.setattr(asyncio, "sleep", answered_meanwhile)
    report = await verdict_of(env, lambda: said_last + timedelta(seconds=age_s))

    assert waited == [waits_s]
    assert (report.total("differences"), report.total("open")) == (0, 0 if waits_s else 1)


@pytest.mark.parametrize("body", [b"", b'{"at":"\xff"}', b'{"at":"2026-03-02T00:00:00"}', b'{"x":' + b"[" * 100_000])
async def test_a_last_record_that_cannot_be_read_is_not_waited_for(tmp_path: Path, body: bytes) -> None:
    said = await logs_of(recorded())
    said["coupon"][-1] = said["coupon"][-1]._replace(state=body)

    report = await verdict_of(await record(tmp_path, said), lambda: now() + timedelta(days=1))

    assert [(found.service, found.kind) for found in report.differences][-1:] == [("coupon", "unreadable")]


async def test_facts_are_found_by_their_ids_and_what_is_no_id_is_not(tmp_path: Path) -> None:
    said = await logs_of(recorded())
    wanted = [log[-1] for log in said.values()]
    others = ["order-none@1", "product-mug@9999", "gift-g1@1", "product-mug@", "product-mug@-1", "text", ""]
    async with logs.opened(await record(tmp_path, said), OWNERS) as opened:
        found = await opened.find([*map(id_of, wanted), *others])

    assert found == {id_of(one): one for one in wanted}


async def test_the_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    env = await record(tmp_path, await logs_of(recorded()))
    for file in (tmp_path / "point").iterdir():
        file.write_bytes(b"no database" * 1_000)

    with pytest.raises(Unreachable, match="the log of point_svc cannot be read"):
        await verdict_of(env)
