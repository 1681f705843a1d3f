"""What a service needs of the machine before it starts, and what it says if it does not get it."""

import errno
import socket
from typing import Any

import pytest

from infra.process.startup import CannotStart, listen


def test_an_address_of_a_family_that_the_machine_has_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", unsupported)
    with (
        pytest.raises(CannotStart, match="port 8001 on ::1 cannot be used: Address family not supported"),
        listen("::1", 8_001),
    ):
        raise AssertionError
