"""Lines are written in order by a thread; a reader that does not read, or a full disk, costs lines and nothing else."""

import errno
import os
import threading
import time
from collections.abc import Callable

import pytest

from infra import line_output
from infra.line_output import LineOutput


class Disk:
    """What `write` does: takes everything, fails, or blocks until it may go on."""

    def __init__(self) -> None:
        self.taken = b""
        self.error: OSError | None = None
        self.most_at_once = 1 << 30
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()

    def write(self, data: bytes) -> int:
        self.asked.set()
        self.open.wait(30)
        if self.error is not None:
            raise self.error
        self.taken += data[: self.most_at_once]
        return len(data[: self.most_at_once])

    @property
    def lines(self) -> list[str]:
        return self.taken.decode().splitlines()


def output(disk: Disk, gone: Callable[[], None] = lambda: None, most: int = 1_000) -> LineOutput:
    return LineOutput(disk.write, lambda lines, why: f"{lines} missing: {why}", gone=gone, max_waiting_bytes=most)


def test_lines_are_written_whole_and_in_order() -> None:
    disk = Disk()
    disk.most_at_once = 3
    lines = output(disk)
    for number in range(20):
        lines.put(f"line {number}")

    assert lines.flush(30)
    assert disk.lines == [f"line {number}" for number in range(20)]


def test_a_reader_that_does_not_read_costs_lines_and_makes_nobody_wait() -> None:
    disk = Disk()
    disk.open.clear()
    lines = output(disk)
    lines.put("x" * 99)
    assert disk.asked.wait(30)
    for number in range(1_000):
        lines.put(f"{number:099}")
    assert not lines.flush(0)

    disk.open.set()
    assert lines.flush(30)
    assert disk.lines[:2] == ["x" * 99, "991 missing: nobody read them in time"]
    assert disk.lines[2:] == [f"{number:099}" for number in range(9)]


def until(told: Callable[[], bool]) -> None:
    for _ in range(3_000):
        if told():
            return
        time.sleep(0.01)
    raise AssertionError("waited 30 s")


def test_the_last_lines_that_were_dropped_are_told_of_although_no_line_follows() -> None:
    disk = Disk()
    disk.open.clear()
    lines = output(disk)
    lines.put("x" * 99)
    assert disk.asked.wait(30)
    lines.put("x" * 2_000)
    disk.open.set()

    until(lambda: disk.lines[1:] == ["1 missing: nobody read them in time"])


def test_a_line_that_is_too_large_is_told_of_although_none_is_written() -> None:
    disk = Disk()
    lines = output(disk)
    lines.put("x" * 2_000)

    until(lambda: disk.lines == ["1 missing: nobody read them in time"])


def test_lines_that_a_full_disk_cost_are_told_of_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_output, "AGAIN_S", 0.01)
    disk = Disk()
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    lines = output(disk)
    lines.put("one")
    assert lines.flush(30)
    disk.error = None

    until(lambda: disk.lines == ["1 missing: No space left on device"])


def test_a_full_disk_is_no_lost_reader_and_is_told_when_there_is_room() -> None:
    disk, gone = Disk(), threading.Event()
    disk.error = OSError(errno.ENOSPC, "No space left on device")
    lines = output(disk, gone.set)
    lines.put("one")
    lines.put("two")
    assert lines.flush(30)

    disk.error = None
    lines.put("three")
    assert lines.flush(30)
    assert disk.lines == ["2 missing: No space left on device", "three"]
    assert not gone.is_set()


@pytest.mark.parametrize("error", [errno.EPIPE, errno.EIO])
def test_a_reader_that_is_gone_is_reported_once(error: int) -> None:
    disk, calls = Disk(), []
    disk.error = OSError(error, "gone")
    lines = output(disk, lambda: calls.append("gone"))
    lines.put("one")
    lines.put("two")

    assert lines.flush(30)
    assert calls == ["gone"]


def test_a_line_that_was_cut_off_does_not_run_into_the_next() -> None:
    disk = Disk()
    disk.most_at_once = 2
    lines = output(disk)

    def write(data: bytes) -> int:
        if len(disk.taken) >= 4 and disk.error is None and b"|" not in disk.taken:
            disk.taken += b"|"
            raise OSError(errno.ENOSPC, "full")
        return Disk.write(disk, data)

    lines._write = write
    lines.put("abcdef")
    lines.put("next")

    assert lines.flush(30)
    assert disk.taken == b"abcd|\n1 missing: full\nnext\n"


def test_a_real_disk_that_is_full_is_told_apart() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        gone = threading.Event()
        lines = LineOutput(lambda data: os.write(full, data), lambda lines, why: why, gone=gone.set)
        lines.put("x")
        assert lines.flush(30)
        assert not gone.is_set()
    finally:
        os.close(full)
