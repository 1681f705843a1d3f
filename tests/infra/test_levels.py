"""A test has the markers of what it starts, without anybody having to set them."""

import subprocess
import sys

import pytest
from coverage import Coverage

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


@pytest.mark.parametrize(
    ("level", "every", "counted"), [(None, False, True), ("slow", False, False), ("slow", True, True)]
)
def test_the_lines_of_a_fast_test_are_counted_and_of_another_when_asked(
    level: str | None, every: bool, counted: bool, request: pytest.FixtureRequest
) -> None:
    if level is not None:
        request.node.add_marker(level)
    coverage = Coverage(data_file=None, config_file=False, include=[levels.__file__])
    with coverage.collect(), levels.lines_counted(request.node, every=every):
        levels.guard(request.node)

    lines = set(coverage.get_data().lines(levels.__file__) or ())
    assert (levels.guard.__code__.co_firstlineno + 3 in lines) is counted
