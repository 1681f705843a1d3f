"""Ports that are found free are found once, although nobody listens there yet."""

import socket
import subprocess
import sys

import pytest

from infra.local.ports import RESERVED, free_ports, is_free

TAKEN = "import socket, sys; socket.socket().bind(('127.0.0.1', int(sys.argv[1])))"


def another_process_finds(port: int) -> bool:
    return subprocess.run([sys.executable, "-c", TAKEN, str(port)], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a bound port would be refused to its server, too")
def test_no_other_process_finds_a_port_that_this_one_has_found_and_its_server_can_listen_there() -> None:
    [port] = free_ports(1)

    assert not another_process_finds(port)
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert not another_process_finds(port)

    free_ports(max(RESERVED, 1))
    assert another_process_finds(port)


def test_all_ports_that_are_found_at_once_differ() -> None:
    ports = free_ports(100)

    assert len(set(ports)) == 100
    assert all(is_free(port) for port in ports)
