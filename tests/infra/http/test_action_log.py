"""What operators did is on disk before it is done, and no line of it can be changed in silence."""

import asyncio
import errno
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.auth.principal import Principal
from infra.http.access import CALLER
from infra.http.operators.action_log import FIRST, Action, ActionLog, Damage, noted, read_log
from infra.http.problems import Problem


def request(who: str = "ann") -> Any:
    state = {CALLER: Principal(who, frozenset(), 0.0)} if who else {}
    return SimpleNamespace(scope={"state": state, "client": ("127.0.0.1", 4_711)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operators.jsonl"


@pytest.fixture
def log(path: Path) -> ActionLog:
    return ActionLog(path)


async def do(log: ActionLog, action: str = "redrive", key: str = "k1") -> None:
    async with log.operation(request(), action, {"key": key}, reason="mended", preview="abc"):
        pass


def raw(path: Path) -> bytes:
    return path.read_bytes()


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def is_private(path: Path) -> bool:
    return path.stat().st_mode & 0o077 == 0


def lines(path: Path) -> list[Action]:
    found = list(read_log(path))
    assert not any(isinstance(one, Damage) for one in found), found
    return [one for one in found if isinstance(one, Action)]


async def test_intent_and_outcome_say_who_did_what_from_where_on_what_and_why(log: ActionLog, path: Path) -> None:
    async with log.operation(
        request(), "redrive", {"consumer": "stock", "key": "k1"}, reason="mended", preview="abc"
    ) as one:
        (intent,) = lines(path)  # on disk before anything is done
        one.outcome = "fails"

    intent, outcome = lines(path)
    assert (intent.kind, intent.operation, intent.action, intent.who) == ("intent", 1, "redrive", "ann")
    assert (intent.client, intent.reason, intent.preview) == ("127.0.0.1", "mended", "abc")
    assert intent.target == {"consumer": "stock", "key": "k1"}
    assert (outcome.kind, outcome.operation, outcome.outcome) == ("outcome", 1, "fails")
    assert is_private(path)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Problem(404, "none", "there is none"), "refused"),
        (Problem(503, "away", "it is away"), "unavailable"),
        (ZeroDivisionError(), "error"),
        (asyncio.CancelledError(), "error"),
    ],
    ids=repr,
)
async def test_an_error_is_an_outcome(log: ActionLog, path: Path, error: BaseException, outcome: str) -> None:
    with pytest.raises(type(error)):
        async with log.operation(request(""), "drop", {}):
            raise error

    intent, ended = lines(path)
    assert (intent.who, ended.outcome) == ("", outcome)


async def test_the_chain_goes_on_after_a_restart_and_with_many_at_once(log: ActionLog, path: Path) -> None:
    await asyncio.gather(*(do(log, key=f"k{n}") for n in range(20)))
    again = ActionLog(path)
    assert again.head == log.head
    await do(again)

    found = lines(path)
    assert len(found) == 42
    assert {one.operation for one in found if one.kind == "outcome"} == {
        one.operation for one in found if one.kind == "intent"
    }
    assert found[0].previous == FIRST
    assert again.head == (42, hashlib.sha256(raw(path).splitlines()[-1]).hexdigest())


async def test_what_a_crash_left_of_a_line_was_never_done(log: ActionLog, path: Path) -> None:
    await do(log)
    with path.open("ab") as file:
        file.write(b'{"operation":3,"at":"2026')
    assert any(isinstance(one, Damage) for one in read_log(path))

    await do(ActionLog(path))

    assert len(lines(path)) == 4


async def test_what_cannot_be_noted_is_not_done(log: ActionLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(log, "_write", full)
    done = False
    with pytest.raises(Problem, match=r"No space left.*so nothing is done; make room") as refused:
        async with noted(log, request(), "drop", {}):
            done = True

    assert (done, refused.value.body.status, lines(path)) == (False, 503, [])


async def test_a_part_of_a_line_is_taken_back(log: ActionLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await do(log)
    before = raw(path)

    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(Problem):
        await do(log)
    assert raw(path) == before
    monkeypatch.undo()
    await do(log)
    assert len(lines(path)) == 4


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("how", ["changed", "taken out", "moved", "doubled", "garbage"])
async def test_a_line_that_was_touched_shows(log: ActionLog, path: Path, how: str, at: int) -> None:
    for n in range(3):
        await do(log, key=f"k{n}")
    content = raw(path).splitlines(keepends=True)
    if how == "changed":
        told = json.loads(content[at])
        content[at] = json.dumps({**told, "at": "2020-01-01T00:00:00Z"}).encode() + b"\n"
    elif how == "taken out":
        del content[at]
    elif how == "moved":
        content.insert((at + 2) % 6, content.pop(at))
    elif how == "doubled":
        content.insert(at, content[at])
    else:
        content[at] = b"\xff{\n"
    put(path, b"".join(content))

    seen = any(isinstance(one, Damage) for one in read_log(path))

    # Of the last line nothing in the file says what it was: the head that somebody kept does.
    last = at == 5 and how in ("changed", "taken out")
    assert seen is not last
    assert seen or ActionLog(path).head != log.head


async def test_without_a_log_nothing_is_noted(path: Path) -> None:
    async with noted(None, request(), "drop", {}) as one:
        assert one.outcome == "done"
    assert list(read_log(path)) == []
