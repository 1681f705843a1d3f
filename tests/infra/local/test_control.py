"""How another program asks `just up`: lines come as they are told, and what a kill left is no obstacle."""

import re
import socket
import threading
from pathlib import Path

import pytest

from infra.local.control import AnswerLine, Conversation, NotRunning, ask, controlled, socket_path
from infra.local.processes import StartFailed


def env(folder: Path) -> dict[str, str]:
    return {"DATA_DIR": str(folder)}


def twice(asked: Conversation) -> None:
    asked.tell(f"first {asked.request}")
    asked.tell(f"then {asked.request}", 7)
    asked.tell("never read")


@pytest.mark.parametrize("deep", [1, 150], ids=["a short path", "a path that no address has room for"])
def test_an_answer_comes_line_by_line_and_ends_with_its_code(tmp_path: Path, deep: int) -> None:
    folder = tmp_path / ("d" * deep)

    with controlled(env(folder), twice):
        assert list(ask(env(folder), "hello")) == [AnswerLine("first hello"), AnswerLine("then hello", 7)]
        assert socket_path(env(folder)).stat().st_mode & 0o077 == 0
        assert folder.stat().st_mode & 0o077 == 0

    assert not socket_path(env(folder)).exists()


def test_nobody_is_there_and_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match=re.escape(f"`just up` is not running with the data in {tmp_path}")):
        list(ask(env(tmp_path), "hello"))
    with pytest.raises(NotRunning, match="is not running"):
        list(ask(env(tmp_path / "missing"), "hello"))


def test_an_answer_that_breaks_off_is_no_good_end(tmp_path: Path) -> None:
    with controlled(env(tmp_path), lambda asked: asked.tell("a part")):
        answer = ask(env(tmp_path), "hello")
        assert next(answer) == AnswerLine("a part")
        with pytest.raises(NotRunning, match="has ended meanwhile"):
            next(answer)


def test_the_socket_of_a_killed_process_is_in_nobodys_way(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(socket_path(env(tmp_path))))

    with controlled(env(tmp_path), twice):
        assert len(list(ask(env(tmp_path), "hello"))) == 2


def test_a_second_one_is_refused_and_takes_nothing_away(tmp_path: Path) -> None:
    with controlled(env(tmp_path), twice):
        with pytest.raises(StartFailed, match="another `just up` runs"), controlled(env(tmp_path), twice):
            pass
        assert len(list(ask(env(tmp_path), "hello"))) == 2


def test_who_answers_can_see_that_nobody_listens_any_more(tmp_path: Path) -> None:
    here, gone, seen = threading.Event(), threading.Event(), []

    def answer(asked: Conversation) -> None:
        seen.append(asked.over)
        here.set()
        gone.wait()
        seen.append(asked.over)
        asked.tell("to nobody", 0)
        here.set()

    with controlled(env(tmp_path), answer):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_path(env(tmp_path))))
            client.sendall(b"hello\n")
            assert here.wait(30)
            here.clear()
        gone.set()
        assert here.wait(30)

    assert seen == [False, True]
