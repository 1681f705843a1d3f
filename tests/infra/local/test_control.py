"""How another program asks `just up`: lines come as they are told, and what a kill left is no obstacle."""

import errno
import os
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


@pytest.mark.parametrize("line", [b"HTTP/1.1 400 Bad Request\r\n", b"\xff\n", b"{}\n"])
def test_another_program_in_its_place_is_named(tmp_path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(socket_path(env(tmp_path))))
        other.listen()

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(100)
                connection.sendall(line)

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(NotRunning, match=r"up\.sock is no `just up`: stop it, remove that file"):
            list(ask(env(tmp_path), "hello"))
        answering.join()


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


def no_socket(*_: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def in_use(*_: object) -> None:
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def denied(*_: object) -> None:
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


CANNOT_BE_MADE = {
    "a name that is too long": ("d" * 300, "", None, "File name too long; set DATA_DIR to a shorter path"),
    "no short name": ("d" * 150, "DESCRIPTORS", Path("/none"), "File name too long; set DATA_DIR to a shorter path"),
    "a file in its way": ("file/data", "", None, "File exists; set DATA_DIR to a folder on this machine"),
    "a folder of another user": (
        "data",
        "_bind",
        denied,
        "Permission denied; set DATA_DIR to a folder on this machine",
    ),
    "no descriptor left": ("data", "socket.socket", no_socket, "Too many open files; raise the limit of open files"),
    "somebody quicker": ("data", "_bind", in_use, "Address already in use; another `just up` has just begun"),
}


@pytest.mark.parametrize(("folder", "name", "instead", "told"), CANNOT_BE_MADE.values(), ids=CANNOT_BE_MADE)
def test_a_socket_that_cannot_be_made_is_one_line_with_its_cause_and_the_next_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str, name: str, instead: object, told: str
) -> None:
    (tmp_path / "file").touch()
    if name:
        monkeypatch.setattr(f"infra.local.control.{name}", instead)

    with pytest.raises(StartFailed) as refused, controlled(env(tmp_path / folder), twice):
        pass

    assert f"up.sock, at which `just roll` asks, cannot be made: {told}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_has_gone_meanwhile_is_no_error_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with controlled(env(folder), twice):
        socket_path(env(folder)).unlink()
        folder.rmdir()
        folder.touch()
