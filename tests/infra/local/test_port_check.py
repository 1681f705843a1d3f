"""Before a system starts, it is said of each port that cannot be used why not."""

import errno
import os
from pathlib import Path

import pytest

from infra.local import ports
from infra.local.port_check import check_free_ports
from infra.local.processes import StartFailed


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EADDRINUSE, "port 80 for the broker is in use. Choose another with NATS_PORT"),
        (errno.EACCES, "port 80 for the broker cannot be used: Permission denied. Choose another with NATS_PORT"),
    ],
)
def test_a_port_that_the_system_refuses_is_not_said_to_be_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    monkeypatch.setattr(ports, "_refusal", lambda *_: OSError(number, os.strerror(number)))

    with pytest.raises(StartFailed) as refused:
        check_free_ports({"NATS_PORT": "80", "DATA_DIR": str(tmp_path)})

    assert str(refused.value).startswith(said)
