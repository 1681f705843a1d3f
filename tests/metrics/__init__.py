"""What a process exports, as Prometheus reads it."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from infra.http.operators.metrics import MetricsCollector
from infra.metrics import Metrics

LINE = re.compile(r"^([a-z_:]+)(?:{(.*)})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Sample(NamedTuple):
    name: str
    labels: frozenset[tuple[str, str]]
    value: float


def exposed(metrics: Metrics) -> str:
    registry = CollectorRegistry()
    registry.register(MetricsCollector(metrics))
    return generate_latest(registry).decode()


def samples(text: str) -> list[Sample]:
    """Every series of an exposition, with its value."""
    return [Sample(name, frozenset(LABEL.findall(labels)), float(value)) for name, labels, value in LINE.findall(text)]


def series(text: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {(one.name, one.labels) for one in samples(text)}


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    found = [one.value for one in samples(text) if one.name == name and labels.items() <= set(one.labels)]
    assert found, f"{name}{labels} is not exported"
    return sum(found)


def promtool(*arguments: str | Path, given: str = "") -> str:
    """What promtool says; it must be content. Without promtool the test is left out, but not where all are wanted."""
    if shutil.which("promtool") is None and not os.environ.get("TEST_ALL"):
        pytest.skip("promtool is missing: it is in Debian's package prometheus")
    done = subprocess.run(
        ["promtool", *map(str, arguments)], input=given, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
