"""A service listens on the socket that its starter holds, and on no other descriptor; who connects meanwhile waits."""

import os
import socket
from pathlib import Path

import pytest

from infra.listening import INHERITED, inherited, is_held, listening


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_without_a_starters_socket_there_is_none() -> None:
    assert inherited(8_001, {}) is None
    assert inherited(8_001, {INHERITED: ""}) is None
    assert not is_held({})
    assert is_held({INHERITED: "3"})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_connects_while_nobody_accepts_is_served_by_the_next(host: str) -> None:
    with listening(host, 0) as held:
        port = port_of(held)
        env = {INHERITED: str(os.dup(held.fileno()))}
        with socket.create_connection((host, port)) as client:
            taken = inherited(port, env)
            assert taken is not None
            with taken:
                accepted, _ = taken.accept()
                with accepted:
                    accepted.sendall(b"hello")
                    assert client.recv(5) == b"hello"
        assert held.getsockname()[1] == port, "the starter's own descriptor stays open"


def test_a_descriptor_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    with listening("127.0.0.1", 0) as other, socket.socket() as bound, (tmp_path / "file").open("w") as file:
        bound.bind(("127.0.0.1", 0))
        for descriptor, port in (
            (other.fileno(), port_of(other) + 1),
            (bound.fileno(), port_of(bound)),
            (file.fileno(), 8_001),
        ):
            with pytest.raises(OSError, match=f"{INHERITED} is {descriptor}, which"):
                inherited(port, {INHERITED: str(descriptor)})
            os.fstat(descriptor)
    for name in ("three", "9" * 30):
        with pytest.raises(OSError, match=f"is '{name}', which is no descriptor; unset it"):
            inherited(8_001, {INHERITED: name})
