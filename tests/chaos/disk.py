"""A disk that can lose power: a file system of its own process, `python -m tests.chaos.disk FOLDER MACHINE...`."""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.local.services import ROOT, service_names
from tests.chaos import fuse
from tests.chaos.volatile import Volatile

ARCHIVE: Final = "archive"
MACHINES: Final = (*service_names(), "nats", ARCHIVE)


class Disk:
    """The mounted folder, with one folder for each machine, and the process of the file system, which takes orders."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self._folder = folder
        self._process = process

    def folder(self, machine: str) -> Path:
        return self._folder / machine

    async def cut(self, *machines: str, luck: int | None = None) -> int:
        """Drop the writes that these machines have not synced; with `luck`, a seed, part of them. Returns their number.

        No process may have a file of these machines open.
        """
        return int(await self._tell("cut", "" if luck is None else str(luck), *machines))

    async def fill(self, *machines: str) -> None:
        await self._tell("fill", *machines)

    async def free(self, *machines: str) -> None:
        await self._tell("free", *machines)

    async def _tell(self, *words: str) -> str:
        return await asyncio.to_thread(self._tell_now, "\t".join(words))

    def _tell_now(self, order: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    """A disk at this folder, which is made. Raises RuntimeError if there can be none."""
    folder.mkdir()
    command = [sys.executable, "-m", __name__, str(folder), *MACHINES]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "mounted":
                raise RuntimeError(f"no disk at {folder}: it takes root and {fuse.DEVICE}")
            yield Disk(folder, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()  # it unmounts, and ends


def can_mount() -> bool:
    return os.geteuid() == 0 and os.access(fuse.DEVICE, os.R_OK | os.W_OK)


# In the process -------------------------------------------------------------------------------------------------------


def main() -> None:
    folder, *machines = sys.argv[1:]
    files = Volatile(machines)
    device = os.open(fuse.DEVICE, os.O_RDWR | os.O_CLOEXEC)
    fuse.mount(device, Path(folder))
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    orders = os.fdopen(0, "rb", buffering=0)
    try:
        fuse.serve(device, files, 0, lambda: _obey(files, orders.readline().decode()))
    finally:
        fuse.unmount(Path(folder))


def _obey(files: Volatile, order: str) -> bool:
    """Carry out an order. False: there are no more orders, because the other end is closed."""
    if not order:
        return False
    word, *names = order.rstrip("\n").split("\t")
    before = files.lost_writes
    match word:
        case "cut":
            luck = random.Random(names[0]) if names[0] else None
            for name in names[1:]:
                files.cut(name, luck)
        case "fill":
            files.full.update(names)
        case "free":
            files.full.difference_update(names)
    sys.stdout.write(f"{files.lost_writes - before}\n")
    sys.stdout.flush()
    return True


if __name__ == "__main__":
    main()
