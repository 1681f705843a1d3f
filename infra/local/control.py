"""How `just roll` talks to the `just up` of its DATA_DIR: by a Unix socket there, which the owner alone can use.

A program sends one line, its request. The answer is lines of JSON: what happens, and last how the request ended.
"""

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from infra.files import PRIVATE_UMASK, make_private_folder
from infra.local.processes import StartFailed
from infra.local.services import ROOT
from infra.settings import Settings, load

SOCKET: Final = "up.sock"
LONGEST_ADDRESS: Final = 100  # bytes; systems take 104 to 108
LONGEST_REQUEST: Final = 100  # bytes
DESCRIPTORS: Final = Path("/proc/self/fd")
"""Linux has the open files of a process here, by short names."""

ANOTHER_FOLDER: Final = "set DATA_DIR to a folder on this machine in which this user may make files"
NEXT_STEPS: Final = {
    errno.EADDRINUSE: "another `just up` has just begun with this DATA_DIR: use that one, or set another DATA_DIR",
    errno.EMFILE: "raise the limit of open files, see `ulimit -n`",
    errno.ENAMETOOLONG: "set DATA_DIR to a shorter path",
    errno.ENOSPC: "make room on its disk",
}
"""By the number of an error; else ANOTHER_FOLDER helps."""


class AnswerLine(msgspec.Struct):
    """One line of an answer. `code`: None, or with the last line the exit code for the program that asked."""

    text: str
    code: int | None = None


class NotRunning(Exception):
    """No `just up` runs with this DATA_DIR, it has ended within its answer, or another program answers in its place."""


class Conversation:
    """One request of another program, and its answer."""

    def __init__(self, connection: socket.socket, request: str) -> None:
        self._connection = connection
        self.request = request

    def tell(self, text: str, code: int | None = None) -> None:
        """Send a line of the answer; with `code` the last one. No effect if nobody listens any more."""
        with contextlib.suppress(OSError):
            self._connection.sendall(msgspec.json.encode(AnswerLine(text, code)) + b"\n")

    @property
    def over(self) -> bool:
        """Whether the program that asked is gone."""
        try:
            return self._connection.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def socket_path(env: Mapping[str, str]) -> Path:
    """Return where the socket is; it may be missing. Raises SettingsError."""
    return ROOT / load(Settings, "nats", 4_222, env).data_dir / SOCKET


@contextlib.contextmanager
def controlled(env: Mapping[str, str], answer: Callable[[Conversation], None]) -> Iterator[None]:
    """Take requests during the block; `answer` is called for each, in a thread of its own.

    Raises StartFailed if another process takes them already, or the socket cannot be made; SettingsError.
    """
    path = socket_path(env)
    with _listening(path) as listener:
        try:
            threading.Thread(target=_accept, args=(listener, answer), daemon=True).start()
            yield
        finally:
            with contextlib.suppress(OSError):  # its folder may be gone, or not writable any more
                path.unlink()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends the thread that accepts


def _listening(path: Path) -> socket.socket:
    """Return a new socket that listens at this path, in a folder that is made if it is missing. Raises StartFailed."""
    with contextlib.ExitStack() as stack:
        try:
            make_private_folder(path.parent)
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            _bind(listener, path)
            listener.listen()
        except OSError as error:
            raise StartFailed(
                f"the socket {path}, at which `just roll` asks, cannot be made: {error.strerror or error}; "
                f"{NEXT_STEPS.get(error.errno or 0, ANOTHER_FOLDER)}"
            ) from error
        stack.pop_all()
        return listener


def _bind(listener: socket.socket, path: Path) -> None:
    """Bind the socket; one that a killed process has left is removed.

    Raises StartFailed if another process listens at this path; OSError.
    """
    with _short(path) as address, socket.socket(socket.AF_UNIX) as other:
        try:
            other.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)
        else:
            raise StartFailed(
                f"another `just up` runs with the data in {path.parent}: stop it, or use another DATA_DIR"
            )
        before = os.umask(PRIVATE_UMASK)
        try:
            listener.bind(address)
        finally:
            os.umask(before)


def _accept(listener: socket.socket, answer: Callable[[Conversation], None]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_converse, args=(connection, answer), daemon=True).start()


def _converse(connection: socket.socket, answer: Callable[[Conversation], None]) -> None:
    with connection, contextlib.suppress(OSError):
        request = connection.makefile("rb").readline(LONGEST_REQUEST)
        answer(Conversation(connection, request.decode(errors="replace").strip()))


def ask(env: Mapping[str, str], request: str) -> Iterator[AnswerLine]:
    """Send this request to the `just up` of this DATA_DIR; yield the lines of its answer as they come.

    Raises NotRunning, SettingsError.
    """
    path = socket_path(env)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with _short(path) as address:
                connection.connect(address)
            connection.sendall(f"{request}\n".encode())
        except OSError as error:
            raise NotRunning(f"`just up` is not running with the data in {path.parent}") from error
        with contextlib.suppress(OSError):
            for line in connection.makefile("rb"):
                try:
                    told = msgspec.json.decode(line, type=AnswerLine)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise NotRunning(f"what answers at {path} is no `just up`: stop it, remove that file") from error
                yield told
                if told.code is not None:
                    return
    raise NotRunning("`just up` has ended meanwhile")


def is_running(env: Mapping[str, str]) -> bool:
    """Return whether the `just up` of this DATA_DIR runs. Asks it nothing, and does not wait. Raises SettingsError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            with _short(socket_path(env)) as address:
                connection.connect(address)
        except BlockingIOError:  # many others wait for it
            return True
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name of this path that is short enough for the address of a Unix socket.

    Raises OSError if the folder of a long one is missing, or the system has no short name for it.
    """
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield str(path)
        return
    if not DESCRIPTORS.exists():
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"{DESCRIPTORS}/{folder}/{path.name}"
    finally:
        os.close(folder)
