"""The export as a process: how it starts, why it does not, how it ends, what it says."""

import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.timestamps import parse_time
from tests.e2e import processes
from tests.e2e.processes import left_in
from tests.forked import run
from tests.infra.export.commands import EXPORT, Ended, command, export_once, exporting
from tests.infra.export.orders import (
    EVENING,
    append,
    environment,
    exported,
    facts,
    files,
    logged,
    mixed,
    plain,
    records,
)
from tests.infra.export.receiver import HANG, Answer, Receiver
from tests.shop import attempts


def told(ended: Ended) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in ended.stdout.splitlines())


# Starting and ending --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_asked_to_end_it_commits_what_is_in_hand(tmp_path: Path, how: signal.Signals) -> None:
    await append(tmp_path, mixed(10))
    rows = plain(await logged(tmp_path))
    env = environment(tmp_path, EXPORT_FILE_AGE_S="3600", EXPORT_REPORT_S="0.05")
    with exporting(env, tmp_path) as process:
        await process.prints(f"in_hand={len(rows)}")
        assert files(tmp_path) == []
        process.process.send_signal(how)
        assert await process.ended() == 0

    assert exported(tmp_path) == rows
    assert process.output.splitlines()[-1].split()[-2] == "stopped"


async def test_asked_to_end_while_the_receiver_hangs_it_ends_in_good_order(tmp_path: Path, receiver: Receiver) -> None:
    await append(tmp_path, mixed(10))
    receiver.otherwise = HANG
    env = environment(
        tmp_path, EXPORT_SINK="http", EXPORT_HTTP_URL=receiver.url, EXPORT_HTTP_ROWS="4", EXPORT_HTTP_TIMEOUT_S="3600"
    )
    with exporting(env, tmp_path) as process:
        async for _ in attempts("a batch"):
            if receiver.batches:
                break
        process.process.terminate()
        assert await process.ended() == 0

    assert "the next export reads them again" in process.output


async def test_two_exports_of_one_sink_do_not_run_at_once(tmp_path: Path) -> None:
    await append(tmp_path, mixed(5))
    with exporting(environment(tmp_path), tmp_path) as first:
        await first.prints("started")
        second = await run(*EXPORT, "--from", "1", env=environment(tmp_path))
        assert second.returncode == 2
        assert f"another export works on {tmp_path / 'export' / 'orders'}; stop that one first" in second.stderr
        assert first.process.poll() is None
        first.process.terminate()
        assert await first.ended() == 0

    assert exported(tmp_path) == plain(await logged(tmp_path))


async def test_a_file_is_committed_when_it_is_old_enough_while_the_export_runs(tmp_path: Path) -> None:
    await append(tmp_path, mixed(5))
    with exporting(environment(tmp_path, EXPORT_FILE_AGE_S="0.05"), tmp_path):
        async for _ in attempts("the first file"):
            if exported(tmp_path) == plain(await logged(tmp_path)):
                break
        await append(tmp_path, mixed(5, first=5))
        async for _ in attempts("the next file"):
            if exported(tmp_path) == plain(await logged(tmp_path)):
                break


async def test_without_a_store_it_waits_says_so_and_makes_none(tmp_path: Path) -> None:
    with exporting(environment(tmp_path, EXPORT_FILE_AGE_S="0.05"), tmp_path) as process:
        await process.prints("waiting for it (has the service run with this DATA_DIR?)")
        assert not (tmp_path / "order").exists()
        await append(tmp_path, mixed(5))
        async for _ in attempts("the rows"):
            if exported(tmp_path) == plain(await logged(tmp_path)):
                break
        process.process.terminate()
        assert await process.ended() == 0

    assert process.output.count("waiting for it") == 1


async def test_what_has_to_end_by_itself_does_not_wait_for_a_store(tmp_path: Path) -> None:
    env = environment(tmp_path)
    ended = [await run(*EXPORT, "--once", env=env), await run(*EXPORT, "--from", "1", env=env)]

    assert [it.returncode for it in ended] == [3, 3]
    assert all(f"the log in {tmp_path / 'order'} cannot be read" in it.stderr for it in ended)
    assert not (tmp_path / "order").exists()


async def test_a_pause_that_somebody_has_to_end_is_said_and_no_row_is_dropped(
    tmp_path: Path, receiver: Receiver
) -> None:
    await append(tmp_path, mixed(10))
    receiver.otherwise = Answer(401)
    env = environment(tmp_path, EXPORT_SINK="http", EXPORT_HTTP_URL=receiver.url, EXPORT_PAUSE_S="0.1")
    with exporting(env, tmp_path) as process:
        await process.prints("export paused: repeating this will not help")
        receiver.otherwise = Answer(204)
        await process.prints("the sink takes rows again")
        process.process.terminate()
        assert await process.ended() == 0

    assert receiver.positions == [row.position for row in await logged(tmp_path)]


# Backfill -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "position"),
    [
        ("20", 20),
        ("1", 1),
        ("999999", 999_999),
        ("2026-01-31T09:00:00+09:00", 32),
        ("2026-01-31T00:00:00Z", 32),
        ("2099-01-01T00:00:00Z", 999_999),
    ],
)
async def test_a_backfill_writes_the_same_rows_again_from_there_on(tmp_path: Path, where: str, position: int) -> None:
    await append(tmp_path, mixed(30))
    env = environment(tmp_path, EXPORT_FILE_BYTES="2000")
    await export_once(env)
    whole = exported(tmp_path)
    before = inodes(tmp_path)
    assert {"2026-01-30/26-30", "2026-01-31/32-36"} <= set(before)
    await export_once(env, start=int(where) if where.isdecimal() else parse_time(where))

    assert exported(tmp_path) == whole
    kept = [name for name, inode in inodes(tmp_path).items() if before.get(name) == inode]
    assert kept == [name for name in before if int(name.rpartition("-")[2]) < position]


async def test_a_backfill_is_a_command(tmp_path: Path) -> None:
    await append(tmp_path, mixed(30))
    env = environment(tmp_path, EXPORT_FILE_BYTES="2000")
    await export_once(env)
    whole, before = exported(tmp_path), inodes(tmp_path)
    ended = await processes.run(*EXPORT, "--once", "--from", "2026-01-31T09:00:00+09:00", env=env)  # from nothing

    assert ended.returncode == 0, ended.stderr
    assert exported(tmp_path) == whole
    assert [name for name, inode in inodes(tmp_path).items() if before.get(name) == inode] == list(before)[:3]


def inodes(data_dir: Path) -> dict[str, int]:
    """Which file bears which name: one that was written again has another inode, as long as the old one is kept."""
    found = sorted((data_dir / "export" / "orders").glob("*/*.parquet"), key=lambda path: path.name)
    for path in found:
        keep = data_dir / path.name
        if not keep.exists():
            keep.hardlink_to(path)
    return dict(zip(files(data_dir), (path.stat().st_ino for path in found), strict=True))


async def test_a_backfill_over_http_sends_again_and_the_receiver_knows_the_keys(
    tmp_path: Path, receiver: Receiver
) -> None:
    await append(tmp_path, mixed(10))
    env = environment(tmp_path, EXPORT_SINK="http", EXPORT_HTTP_URL=receiver.url, EXPORT_HTTP_ROWS="4")
    await export_once(env)
    sent = len(receiver.batches)
    await export_once(env, start=10)

    again = [row["position"] for batch in receiver.batches[sent:] for row in batch.rows]
    positions = [row.position for row in await logged(tmp_path)]
    assert again == [position for position in positions if position >= 10]
    assert receiver.positions == positions


async def test_a_backfill_never_skips_anything(tmp_path: Path, receiver: Receiver) -> None:
    await append(tmp_path, mixed(10))
    env = environment(tmp_path, EXPORT_SINK="http", EXPORT_HTTP_URL=receiver.url)
    await export_once(env, start=15)

    assert receiver.positions == [row.position for row in await logged(tmp_path)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "yesterday"], "neither a position such as 12345 nor a time"),
        (["--from", "0"], "positions begin with 1"),
        (["--from", "-3"], "--from"),
        (["status", "--from", "3"], "--from and --once are for `run`"),
        (["reconcile", "--once"], "--from and --once are for `run`"),
        (["run", "--json"], "--json is for `status`"),
        (["export"], "'export' is not one of"),
    ],
)
async def test_arguments_that_cannot_be_meant_are_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    ended = await command(environment(tmp_path), *arguments)

    assert ended.code == 2
    assert said in " ".join(ended.stderr.replace("│", " ").split())
    assert left_in(tmp_path) == []


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"EXPORT_SINK": "ftp"}, "EXPORT_SINK='ftp' cannot be used"),
        ({"EXPORT_FILE_BYTES": "0"}, "EXPORT_FILE_BYTES='0' cannot be used"),
        ({"EXPORT_FILE_AGE_S": "soon"}, "EXPORT_FILE_AGE_S='soon' cannot be used"),
        ({"EXPORT_HTTP_ROWS": "0"}, "EXPORT_HTTP_ROWS='0' cannot be used"),
        ({"EXPORT_SINK": "http"}, "EXPORT_HTTP_URL is not set"),
        ({"EXPORT_HTTP_URL": "platform"}, "EXPORT_HTTP_URL is not an HTTP address"),
        ({"EXPORT_HTTP_URL": "http://platform:99999/"}, "EXPORT_HTTP_URL is not an HTTP address"),
        ({"EXPORT_HTTP_TOTALS_URL": "ftp://platform/"}, "EXPORT_HTTP_TOTALS_URL is not an HTTP address"),
        ({"EXPORT_HTTP_URL": "http://platform/\x01"}, "EXPORT_HTTP_URL is not an HTTP address"),
        ({"EXPORT_HTTP_URL": "http://plat\x7fform/"}, "EXPORT_HTTP_URL is not an HTTP address"),
        ({"EXPORT_HTTP_URL": "http://plat\u200dform/"}, "EXPORT_HTTP_URL is not an HTTP address"),
        ({"EXPORT_HTTP_URL": "https://xn--/"}, "EXPORT_HTTP_URL is not an HTTP address"),
        ({"EXPORT_HTTP_URL": "https://me:hush@platform/"}, "EXPORT_HTTP_URL has a password in it"),
        (
            {"EXPORT_HTTP_URL": "http://platform.example/", "EXPORT_HTTP_TOKEN_FILE": "token"},
            "EXPORT_HTTP_URL is not https, and the bearer token would be readable on its way",
        ),
    ],
)
async def test_a_setting_that_cannot_be_meant_is_named(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    ended = await command(environment(tmp_path, **changed))

    assert ended.code == 2
    assert ended.stderr.startswith("the export of orders cannot be used: ")
    assert said in ended.stderr
    assert "hush" not in ended.stderr
    assert left_in(tmp_path) == []


# Status ---------------------------------------------------------------------------------------------------------------


async def test_status_says_how_far_it_is_and_how_far_the_log(tmp_path: Path) -> None:
    await append(tmp_path, mixed(10))
    env = environment(tmp_path)
    await export_once(env)
    done = await command(env, "status", "--json")
    position = (await logged(tmp_path))[-1].position
    assert done.code == 0
    assert json.loads(done.stdout) == {
        "dataset": "orders",
        "sink": "file",
        "position": position,
        "head": position,
        "lag_records": 0,
        "lag_s": 0.0,
    }

    await append(tmp_path, records(facts(90, "corrected", datetime.now(UTC) - timedelta(hours=1))))
    behind = await command(env, "status")
    assert behind.code == 0
    assert (told(behind)["position"], told(behind)["head"]) == (str(position), str(position + 3))
    assert told(behind)["lag_records"] == "3"
    assert float(told(behind)["lag_s"]) >= 3_600


async def test_status_changes_nothing_also_beside_a_running_export(tmp_path: Path) -> None:
    await append(tmp_path, mixed(10))
    env = environment(tmp_path)
    await export_once(env)
    left = tmp_path / "export" / ".orders.work" / f".{'0' * 16}-{'0' * 16}.parquet.tmp"
    left.write_bytes(b"what the running export is just writing")
    await command(env, "status")
    await command(env, "reconcile")

    assert left.exists()


async def test_status_without_a_log_exits_3(tmp_path: Path) -> None:
    ended = await command(environment(tmp_path), "status", "--json")

    assert ended.code == 3
    assert ended.stdout == ""
    assert "Has order_svc run with this DATA_DIR?" in ended.stderr
    assert left_in(tmp_path) == []


async def test_another_log_is_refused_with_what_to_do(tmp_path: Path) -> None:
    await append(tmp_path, mixed(10))
    env = environment(tmp_path)
    await export_once(env)
    (tmp_path / "order").rename(tmp_path / "old")
    await append(tmp_path, mixed(10, first=50, at=EVENING))
    ended = await run(*EXPORT, env=env)

    assert ended.returncode == 1
    assert "the export of orders cannot continue: " in ended.stderr
    assert "--from 1" in ended.stderr
