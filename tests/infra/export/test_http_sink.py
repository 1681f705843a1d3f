"""Rows over real HTTP to a receiver that fails in every way: none is lost, none is kept twice."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from infra.export.bearer_token import TokenFile
from infra.export.cursor import CursorFile
from infra.export.errors import SinkError, Unavailable
from infra.export.exporter import Exporter
from infra.export.http_sink import HttpSink
from infra.export.retry_policy import RetryPolicy
from infra.export.rows import START, ExportPosition
from infra.export.sink import Limits
from order_svc.export import ORDERS
from tests.infra.export.orders import append, exporter, logged, mixed, rows_of
from tests.infra.export.receiver import DRIP, DROP, HANG, Answer, Receiver
from tests.shop import PATIENCE_S, attempts

ROWS = 5  # in a batch


@asynccontextmanager
async def sink(
    data_dir: Path, receiver: Receiver, *, timeout_s: float = 5.0, **changed: Any
) -> AsyncIterator[HttpSink]:
    cursor = CursorFile(data_dir / "export" / "orders.http.json", receiver.url)
    made = HttpSink(ORDERS, receiver.url, cursor, Limits(ROWS, 1 << 30, 0.0), timeout_s=timeout_s, **changed)
    try:
        with made.lock():
            yield made
    finally:
        await made.close()


def token(folder: Path, text: str = "first", mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(f"{text}\n")
    path.chmod(mode)
    return path


async def positions(data_dir: Path) -> list[int]:
    return [row.position for row in await logged(data_dir)]


async def test_rows_arrive_in_batches_in_the_order_of_the_log(tmp_path: Path, receiver: Receiver) -> None:
    await append(tmp_path, mixed(20))
    async with sink(tmp_path, receiver) as http:
        await exporter(tmp_path, http).run(once=True)

    assert receiver.positions == await positions(tmp_path)
    assert [len(batch.rows) for batch in receiver.batches[:-1]] == [ROWS] * (len(receiver.batches) - 1)
    first = receiver.batches[0]
    assert {row["schema"] for row in first.rows} == {"orders/1"}
    told = {name: first.headers[name] for name in ("Content-Type", "Content-Encoding", "Export-Schema", "Export-Range")}
    assert told == {
        "Content-Type": "application/x-ndjson",
        "Content-Encoding": "gzip",
        "Export-Schema": "orders/1",
        "Export-Range": f"{first.rows[0]['position']}-{first.rows[-1]['position']}",
    }
    assert "Authorization" not in first.headers
    assert len(set(receiver.keys)) == len(receiver.batches)


@pytest.mark.parametrize(
    "fault",
    [Answer(500), Answer(503, "0"), Answer(429, "0"), Answer(408), DROP, HANG, Answer(400), Answer(302)],
    ids=lambda fault: fault if isinstance(fault, str) else str(fault.status),
)
async def test_a_batch_that_was_not_acknowledged_comes_again_under_its_key(
    fault: Answer | str, tmp_path: Path, receiver: Receiver
) -> None:
    await append(tmp_path, mixed(20))
    receiver.faults.extend([Answer(200), fault, fault])
    async with sink(tmp_path, receiver, timeout_s=0.2 if fault == HANG else 5.0) as http:
        await exporter(tmp_path, http).run(once=True)

    assert receiver.positions == await positions(tmp_path)
    assert receiver.keys[1] == receiver.keys[2] == receiver.keys[3]
    assert receiver.batches[1].rows == receiver.batches[2].rows == receiver.batches[3].rows
    assert len(receiver.keys) == len(set(receiver.keys)) + 2


async def test_an_answer_that_drips_is_not_waited_for(tmp_path: Path, receiver: Receiver) -> None:
    receiver.faults.append(DRIP)
    async with sink(tmp_path, receiver, timeout_s=0.3) as http:
        with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
            await http.commit(rows_of(mixed(1)))


async def test_the_cursor_moves_with_the_acknowledgement_and_not_before(tmp_path: Path, receiver: Receiver) -> None:
    rows = rows_of(mixed(4))
    async with sink(tmp_path, receiver) as http:
        receiver.faults.append(DROP)
        with pytest.raises(Unavailable):
            await http.commit(rows)
        assert await http.position() == START
        await http.commit(rows)
        assert await http.position() == ExportPosition(rows[-1].position, rows[-1].fact_id)
    async with sink(tmp_path, receiver) as another:
        assert await another.position() == ExportPosition(rows[-1].position, rows[-1].fact_id)


async def test_one_that_starts_again_continues_behind_what_was_acknowledged(tmp_path: Path, receiver: Receiver) -> None:
    await append(tmp_path, mixed(20))
    async with sink(tmp_path, receiver) as http:
        await exporter(tmp_path, http).run(once=True)
    sent = len(receiver.batches)
    await append(tmp_path, mixed(5, first=20))
    async with sink(tmp_path, receiver) as http:
        await exporter(tmp_path, http).run(once=True)

    assert receiver.batches[sent].rows[0]["position"] > receiver.batches[sent - 1].rows[-1]["position"]
    assert receiver.positions == await positions(tmp_path)


async def test_an_answer_that_no_repetition_changes_is_lasting_and_others_are_not(
    tmp_path: Path, receiver: Receiver
) -> None:
    lasting: dict[int, bool] = {}
    async with sink(tmp_path, receiver) as http:
        for status in (302, 400, 401, 404, 408, 413, 422, 429, 500, 502, 503):
            receiver.faults.append(Answer(status))
            with pytest.raises(Unavailable, match=f"the receiver answered {status}") as caught:
                await http.commit(rows_of(mixed(1)))
            lasting[status] = caught.value.lasting
        assert await http.position() == START

    assert [status for status, is_lasting in lasting.items() if is_lasting] == [302, 400, 401, 404, 413, 422]


@pytest.mark.parametrize(
    ("status", "header", "value"),
    [
        (200, "Content-Encoding", "gzip"),
        (500, "Content-Encoding", "gzip"),
        (500, "Content-Type", "text/plain; charset=hex"),
        (500, "Content-Type", "text/plain; charset=no-such"),
    ],
)
async def test_an_answer_that_is_not_encoded_as_it_says_is_none(
    tmp_path: Path, receiver: Receiver, status: int, header: str, value: str
) -> None:
    receiver.faults.append(Answer(status, headers=((header, value),), body=b"neither \xff"))
    async with sink(tmp_path, receiver) as http:
        with pytest.raises(Unavailable) as caught:
            await http.commit(rows_of(mixed(1)))
        assert not caught.value.lasting
        assert await http.position() == START
        await http.commit(rows_of(mixed(1)))


IN_AN_HOUR = "in an hour"


@pytest.mark.parametrize(
    ("status", "header", "at_least_s", "at_most_s"),
    [
        (429, "7", 7, 7),
        (503, "7", 7, 7),
        (503, IN_AN_HOUR, 3_000, 3_600),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        (503, "soon", 0, 0),
        (503, "", 0, 0),
        (503, "Mon, 01 Jan 99999999999 00:00:00 GMT", 0, 0),
        (503, "Fri, 31 Dec 9999 23:59:59 -2359", 3_600, math.inf),
        (503, "9" * 400, 3_600, math.inf),
        (503, None, 0, 0),
        (500, "7", 0, 0),
    ],
)
async def test_retry_after_is_read_where_it_means_something(
    tmp_path: Path, receiver: Receiver, status: int, header: str | None, at_least_s: float, at_most_s: float
) -> None:
    if header == IN_AN_HOUR:
        header = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    receiver.faults.append(Answer(status, header))
    async with sink(tmp_path, receiver) as http:
        with pytest.raises(Unavailable) as caught:
            await http.commit(rows_of(mixed(1)))

    assert at_least_s <= caught.value.retry_after_s <= at_most_s


# Stopping -------------------------------------------------------------------------------------------------------------


async def test_asked_to_stop_while_nobody_answers_it_drops_what_is_in_hand_and_nothing_is_lost(
    tmp_path: Path, receiver: Receiver
) -> None:
    await append(tmp_path, mixed(20))
    receiver.faults.extend([Answer(204), HANG])
    closing = asyncio.Event()
    async with sink(tmp_path, receiver, timeout_s=3_600) as http:
        running = asyncio.create_task(exporter(tmp_path, http, closing=closing, grace_s=0.05).run())
        async for _ in attempts("the second batch"):
            if len(receiver.batches) == 2:
                break
        closing.set()
        async with asyncio.timeout(PATIENCE_S):
            await running
        assert (await http.position()).position == receiver.batches[0].rows[-1]["position"]
        await exporter(tmp_path, http).run(once=True)

    assert receiver.positions == await positions(tmp_path)


async def test_asked_to_stop_during_a_pause_it_does_not_sit_it_out(tmp_path: Path, receiver: Receiver) -> None:
    await append(tmp_path, mixed(20))
    receiver.otherwise = Answer(503, "3600")
    closing = asyncio.Event()
    retry = RetryPolicy(1, 3_600, 3_600)
    async with sink(tmp_path, receiver) as http:
        running = asyncio.create_task(exporter(tmp_path, http, closing=closing, retry=retry).run())
        async for _ in attempts("the pause"):
            if retry.is_paused:
                break
        closing.set()
        await running

    assert len(receiver.batches) == 1


async def test_what_is_in_hand_is_sent_before_it_stops(tmp_path: Path, receiver: Receiver) -> None:
    await append(tmp_path, mixed(2))
    closing = asyncio.Event()
    async with sink(tmp_path, receiver) as http:
        http.limits = Limits(ROWS, 1 << 30, 3_600)  # no batch is full, none is old
        waiting: Exporter = exporter(tmp_path, http, closing=closing)
        running = asyncio.create_task(waiting.run())
        async for _ in attempts("rows in hand"):
            if len(waiting._hand) == len(await logged(tmp_path)):
                break
        assert receiver.batches == []
        closing.set()
        await running

    assert receiver.positions == await positions(tmp_path)


# Token ----------------------------------------------------------------------------------------------------------------


async def test_a_token_that_changes_is_read_again(tmp_path: Path, receiver: Receiver) -> None:
    path = token(tmp_path)
    async with sink(tmp_path, receiver, token=TokenFile(path)) as http:
        await http.commit(rows_of(mixed(1)))
        (tmp_path / "new").write_text("second")
        (tmp_path / "new").chmod(0o600)
        (tmp_path / "new").replace(path)
        await http.commit(rows_of(mixed(1)))

    assert [batch.headers["Authorization"] for batch in receiver.batches] == ["Bearer first", "Bearer second"]


async def test_a_token_that_everybody_can_read_is_refused_and_not_repeated(tmp_path: Path, receiver: Receiver) -> None:
    path = token(tmp_path, "secret", 0o644)
    with pytest.raises(SinkError, match="chmod o-r") as caught:
        async with sink(tmp_path, receiver, token=TokenFile(path)):
            pass
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "two\nlines", "with blanks", "ümlaut"])
async def test_what_is_no_token_is_refused(tmp_path: Path, receiver: Receiver, text: str) -> None:
    path = token(tmp_path, text)
    with pytest.raises(SinkError, match="bearer token"):
        async with sink(tmp_path, receiver, token=TokenFile(path)):
            pass


async def test_a_token_that_goes_away_pauses_the_export_until_it_is_back(tmp_path: Path, receiver: Receiver) -> None:
    path = token(tmp_path)
    async with sink(tmp_path, receiver, token=TokenFile(path)) as http:
        path.unlink()
        with pytest.raises(Unavailable, match="cannot be read") as caught:
            await http.commit(rows_of(mixed(1)))
        assert caught.value.lasting
        token(tmp_path)
        await http.commit(rows_of(mixed(1)))

    assert len(receiver.batches) == 1


# Cursor ---------------------------------------------------------------------------------------------------------------


async def test_the_cursor_of_another_receiver_is_refused(tmp_path: Path, receiver: Receiver) -> None:
    async with sink(tmp_path, receiver) as http:
        await http.commit(rows_of(mixed(1)))
    receiver.url = receiver.url.replace("/orders", "/others")
    async with sink(tmp_path, receiver) as moved:
        with pytest.raises(SinkError, match=r"belongs to the receiver http://127\.0\.0\.1:\d+/orders, but"):
            await moved.position()


async def test_going_back_never_goes_forward(tmp_path: Path, receiver: Receiver) -> None:
    """Forward, rows would be left out that the receiver has not acknowledged."""
    await append(tmp_path, mixed(20))
    async with sink(tmp_path, receiver) as http:
        await exporter(tmp_path, http).run(once=True)
        at = await http.position()
        await http.rewind(ExportPosition(at.position + 5, ""))
        assert await http.position() == at
        await http.rewind(ExportPosition(at.position - 5, ""))
        assert await http.position() == ExportPosition(at.position - 5, "")


async def test_a_damaged_cursor_is_said(tmp_path: Path, receiver: Receiver) -> None:
    async with sink(tmp_path, receiver) as http:
        await http.commit(rows_of(mixed(1)))
        (tmp_path / "export" / "orders.http.json").write_text("{")
        with pytest.raises(SinkError, match=r"orders\.http\.json cannot be read"):
            await http.position()


async def test_a_cursor_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, receiver: Receiver, steps: list[str]
) -> None:
    async with sink(tmp_path, receiver) as http:
        steps.clear()
        await http.commit(rows_of(mixed(1)))

    assert steps == [
        "fsync .orders.http.json.tmp",
        ".orders.http.json.tmp becomes orders.http.json",
        "fsync export",
    ]
