"""Without the setting nothing is traced: the library is not even imported, and need not be installed."""

import re
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.local.services import ROOT, service_names
from infra.metrics import Metrics
from infra.request_span import current, request_is_about
from infra.settings import Settings, SettingsError
from infra.timestamps import now
from infra.tracing.start import traced
from tests.metrics import exposed, value

SERVICES = [f"{name}_svc.__main__" for name in service_names()]


def begun(
    endpoint: str, writer: Any = None, metrics: Metrics | None = None, name: str = "otel_exporter_otlp_endpoint"
) -> AbstractAsyncContextManager[None]:
    none = cast(Any, None)
    settings = Settings(port=1, **{name: endpoint})  # type: ignore[arg-type]
    return traced("order", settings, now, metrics or Metrics(), writer=writer, dead_letters=none, server=none)


@pytest.mark.processes
@pytest.mark.parametrize("module", [*SERVICES, "ops.orders"])
def test_no_process_imports_the_library(module: str) -> None:
    code = f"import sys, {module}; print([name for name in sys.modules if name.startswith('opentelemetry')])"

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert said.stdout == "[]\n"


async def test_without_the_setting_nothing_is_hooked_in() -> None:
    writer, metrics = SimpleNamespace(on_settled=[]), Metrics()

    async with begun("", writer, metrics):
        assert writer.on_settled == []
        assert value(exposed(metrics), "saga_spans_total") == 0


@pytest.mark.parametrize("setting", ["otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint"])
async def test_with_the_setting_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    for name in [name for name in sys.modules if name.startswith(("opentelemetry", "infra.tracing.otel"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(SettingsError) as refused:
        async with begun("http://127.0.0.1:4318", name=setting):
            pass

    assert re.fullmatch(
        rf"{setting.upper()} is set, and traces need OpenTelemetry \(opentelemetry[a-z.]*\), which is not "
        "installed: `uv sync --inexact --extra otel` installs it",
        str(refused.value),
    )


def test_without_a_request_nothing_is_said_about_one() -> None:
    request_is_about("o1")

    assert current.get() is None
