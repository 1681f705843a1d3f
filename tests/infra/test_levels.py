"""A test has the markers of what it starts, without anybody having to set them."""

import subprocess
import sys

import pytest

from tests import levels
from tests.shop import Shop


def test_this_test_needs_nothing(request: pytest.FixtureRequest) -> None:
    assert {mark.name for mark in request.node.iter_markers()} & {"broker", "processes", "slow"} == set()


async def test_one_that_uses_the_broker_fixture_is_marked(broker: Shop, request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("broker") is not None
    assert request.node.get_closest_marker("processes") is None


def test_one_that_starts_a_broker_without_the_marker_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match="starts a nats-server but lacks the marker 'broker'"):
        subprocess.run(["nats-server", "--version"], check=False)


@pytest.mark.parametrize("module", ["point_svc", "infra.local.up", "ops.orders"])
def test_one_that_starts_a_process_of_the_system_without_the_marker_fails(module: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="lacks the marker 'processes'"):
        subprocess.run([sys.executable, "-m", module, "--help"], check=False)


def test_one_that_forks_a_service_without_the_marker_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match="lacks the marker 'processes'"):
        levels.started(levels.PROCESSES, "a service")
