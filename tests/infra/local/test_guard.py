"""The guard knows its processes by their descriptors where the system gives them, or else by their ids."""

import errno
import os
import signal

import pytest

from infra.local.guard import WatchedProcess


def refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(_: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refused, raising=False)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
def test_a_process_that_has_no_descriptor_is_stopped_by_its_id(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    refusing(monkeypatch, number)
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
    process = WatchedProcess(12, last=False)

    assert not process.ended()
    process.send(signal.SIGTERM)

    assert sent == [(12, 0), (12, signal.SIGTERM)]


def test_a_process_that_is_not_there_has_ended_and_its_id_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, errno.ESRCH)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("the id may be a stranger's by now"))
    process = WatchedProcess(12, last=False)

    assert process.ended()
    process.send(signal.SIGTERM)
