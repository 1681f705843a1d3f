"""The kernel's FUSE protocol, as much of it as one file system in memory needs (linux/fuse.h, version 7.31).

The module speaks the protocol directly, without a library: libfuse comes in no wheel, while the kernel's side is
everywhere and does not change. Mounting takes root.
"""

import contextlib
import ctypes
import errno
import os
import select
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

DEVICE: Final = Path("/dev/fuse")
VERSION: Final = (7, 31)
MOST_WRITTEN: Final = 128 << 10  # bytes in one request
BUFFER: Final = MOST_WRITTEN + (8 << 10)
BIG_WRITES: Final = 1 << 5
NO_OPEN: Final = 1 << 17
FOR_EVER_S: Final = 86_400  # attributes change through this kernel alone

MS_NOSUID, MS_NODEV = 2, 4
MNT_DETACH: Final = 2

IN = struct.Struct("<IIQQIIII")  # length, opcode, unique, node, user, group, process, padding
OUT = struct.Struct("<IiQ")  # length, error, unique
INIT = struct.Struct("<IIII")
INITED = struct.Struct("<IIIIHHIIHH32x")
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
ENTRY = struct.Struct("<QQQQII")
GOT = struct.Struct("<QII")
SET = struct.Struct("<IIQQQQQQIIIIIIII")
READ = struct.Struct("<QQIIQII")
WRITTEN = struct.Struct("<II")
FORGET = struct.Struct("<QQ")
STATFS = struct.Struct("<QQQQQIIII24x")
DIRENT = struct.Struct("<QQII")

SET_MODE, SET_SIZE = 1, 8


class Attributes(NamedTuple):
    node: int
    size: int
    mode: int
    links: int
    changed_s: int


class Files(Protocol):
    """The files that are served. Names are bytes. Every method may raise OSError, which the caller gets to see."""

    def attributes(self, node: int) -> Attributes: ...
    def look_up(self, folder: int, name: bytes) -> Attributes: ...
    def forget(self, node: int, times: int) -> None: ...
    def make(self, folder: int, name: bytes, mode: int) -> Attributes: ...
    def remove(self, folder: int, name: bytes, *, is_folder: bool) -> None: ...
    def rename(self, folder: int, name: bytes, to_folder: int, to_name: bytes) -> None: ...
    def set_mode(self, node: int, mode: int) -> None: ...
    def resize(self, node: int, size: int) -> None: ...
    def read(self, node: int, offset: int, size: int) -> bytes: ...
    def write(self, node: int, offset: int, data: bytes) -> None: ...
    def sync(self, node: int) -> None: ...

    def entries(self, folder: int, after: int) -> Iterator[tuple[int, bytes, Attributes]]:
        """Places behind `after` in growing order, each with its name and the attributes of its node."""


def serve(device: int, files: Files, orders: int, obey: Callable[[], bool]) -> None:
    """Serve the files until they are unmounted, or `obey`, called when there is something to read from `orders`,
    returns False.
    """
    buffer = bytearray(BUFFER)
    poll = select.poll()
    poll.register(device, select.POLLIN)
    poll.register(orders, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready == orders:
                if not obey():
                    return
                continue
            try:
                size = os.readv(device, [buffer])
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                if error.errno in (errno.EINTR, errno.ENOENT):  # the caller gave up
                    continue
                raise
            reply = answer(files, bytes(memoryview(buffer)[:size]))
            if reply is not None:
                with contextlib.suppress(FileNotFoundError):  # the same
                    os.writev(device, reply)


def answer(files: Files, message: bytes) -> list[bytes] | None:
    """The bytes to write back to this request; None: no answer."""
    _, opcode, unique, node, *_ = IN.unpack_from(message)
    handler = HANDLERS.get(opcode)
    if opcode in SILENT:
        if handler is not None:
            handler(files, node, message[IN.size :])
        return None
    code, body = errno.ENOSYS, b""
    if handler is not None:
        try:
            code, body = 0, handler(files, node, message[IN.size :])
        except OSError as error:
            code = error.errno or errno.EIO
    return [OUT.pack(OUT.size + len(body), -code, unique), body]


# Requests -------------------------------------------------------------------------------------------------------------


def _init(_: Files, __: int, body: bytes) -> bytes:
    _, _, readahead, _ = INIT.unpack_from(body)
    return INITED.pack(*VERSION, readahead, BIG_WRITES | NO_OPEN, 16, 12, MOST_WRITTEN, 1, 0, 0)


def _attributes(found: Attributes) -> bytes:
    node, size, mode, links, at = found
    return ATTRIBUTES.pack(node, size, -(-size // 512), at, at, at, 0, 0, 0, mode, links, 0, 0, 0, 4_096, 0)


def _entry(found: Attributes) -> bytes:
    # A name is asked for again each time: after a power cut it may name another node, or none.
    return ENTRY.pack(found.node, 0, 0, FOR_EVER_S, 0, 0) + _attributes(found)


def _got(found: Attributes) -> bytes:
    return GOT.pack(FOR_EVER_S, 0, 0) + _attributes(found)


def _look_up(files: Files, node: int, body: bytes) -> bytes:
    return _entry(files.look_up(node, _name(body)))


def _name(body: bytes) -> bytes:
    return body.partition(b"\0")[0]


def _forget(files: Files, node: int, body: bytes) -> bytes:
    files.forget(node, int.from_bytes(body[:8], "little"))
    return b""


def _forget_many(files: Files, _: int, body: bytes) -> bytes:
    count = int.from_bytes(body[:4], "little")
    for number in range(count):
        files.forget(*FORGET.unpack_from(body, 8 + number * FORGET.size))
    return b""


def _get(files: Files, node: int, _: bytes) -> bytes:
    return _got(files.attributes(node))


def _set(files: Files, node: int, body: bytes) -> bytes:
    valid, _, _, size, *_, mode, _, _, _, _ = SET.unpack_from(body)
    if valid & SET_MODE:
        files.set_mode(node, mode)
    if valid & SET_SIZE:
        files.resize(node, size)
    return _got(files.attributes(node))


def _make_file(files: Files, node: int, body: bytes) -> bytes:
    return _entry(files.make(node, _name(body[16:]), int.from_bytes(body[:4], "little")))


def _make_folder(files: Files, node: int, body: bytes) -> bytes:
    return _entry(files.make(node, _name(body[8:]), 0o040000 | int.from_bytes(body[:4], "little")))


def _remove_file(files: Files, node: int, body: bytes) -> bytes:
    files.remove(node, _name(body), is_folder=False)
    return b""


def _remove_folder(files: Files, node: int, body: bytes) -> bytes:
    files.remove(node, _name(body), is_folder=True)
    return b""


def _rename(files: Files, node: int, body: bytes) -> bytes:
    return _move(files, node, int.from_bytes(body[:8], "little"), body[8:])


def _rename2(files: Files, node: int, body: bytes) -> bytes:
    if body[8:12] != b"\0\0\0\0":  # an exchange, or only if there is nothing yet
        raise OSError(errno.EINVAL, "no such rename")
    return _move(files, node, int.from_bytes(body[:8], "little"), body[16:])


def _move(files: Files, node: int, to_folder: int, names: bytes) -> bytes:
    name, to_name, _ = names.split(b"\0", 2)
    files.rename(node, name, to_folder, to_name)
    return b""


def _read(files: Files, node: int, body: bytes) -> bytes:
    _, offset, size, *_ = READ.unpack_from(body)
    return files.read(node, offset, size)


def _write(files: Files, node: int, body: bytes) -> bytes:
    _, offset, size, *_ = READ.unpack_from(body)
    files.write(node, offset, body[READ.size : READ.size + size])
    return WRITTEN.pack(size, 0)


def _sync(files: Files, node: int, _: bytes) -> bytes:
    files.sync(node)
    return b""


def _nothing(_: Files, __: int, ___: bytes) -> bytes:
    return b""


def _open_folder(_: Files, __: int, ___: bytes) -> bytes:
    return bytes(16)


def _list(files: Files, node: int, body: bytes) -> bytes:
    _, after, size, *_ = READ.unpack_from(body)
    listed = b""
    for place, name, found in files.entries(node, after):
        entry = DIRENT.pack(found.node, place, len(name), found.mode >> 12) + name
        entry += bytes(-len(entry) % 8)
        if len(listed) + len(entry) > size:
            break
        listed += entry
    return listed


def _room(_: Files, __: int, ___: bytes) -> bytes:
    return STATFS.pack(1 << 24, 1 << 24, 1 << 24, 1 << 20, 1 << 20, 4_096, 255, 4_096, 0)


SILENT: Final = {2, 36, 42}  # forget, interrupt, forget many: they have no answer
HANDLERS: Final[dict[int, Callable[[Files, int, bytes], bytes]]] = {
    1: _look_up,
    2: _forget,
    3: _get,
    4: _set,
    8: _make_file,
    9: _make_folder,
    10: _remove_file,
    11: _remove_folder,
    12: _rename,
    15: _read,
    16: _write,
    17: _room,
    18: _nothing,  # release
    20: _sync,
    26: _init,
    27: _open_folder,
    28: _list,
    29: _nothing,  # release a folder
    30: _sync,
    42: _forget_many,
    45: _rename2,
}
"""The handlers by opcode. Others get ENOSYS; the kernel then does without. Without open, a file is known by its node
alone.
"""


# Mounting -------------------------------------------------------------------------------------------------------------


def mount(device: int, folder: Path) -> None:
    """Mount the device at this folder. Raises OSError."""
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"chaos", os.fsencode(folder), b"fuse", MS_NOSUID | MS_NODEV, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount {folder}: {os.strerror(ctypes.get_errno())}")


def unmount(folder: Path) -> None:
    """Unmount at once, even while the folder is in use. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(folder), MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), f"cannot unmount {folder}: {os.strerror(ctypes.get_errno())}")
