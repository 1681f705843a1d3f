"""The table of docs/settings.md is the code's: every variable, its default and its unit."""

import os
import pkgutil

import msgspec
import pytest

from infra.local.dashboard import dashboard_settings
from infra.local.nats import nats_environment
from infra.local.services import service_names
from infra.process.service import Service
from infra.settings import Settings, load
from tests.docs.pages import ROOT, rows

PAGE = ROOT / "docs" / "settings.md"


def settings_of_the_code() -> dict[str, str]:
    """Every variable with its default, as the services, the bundled broker and the dashboard read them."""
    broker = {name: value.strip('"') for name, value in nats_environment({}).items()}
    assert int(broker["GOMAXPROCS"]) == max(1, (os.cpu_count() or 1) // 2)
    broker["GOMAXPROCS"] = "half of them"
    found = {name: value.removeprefix(f"{ROOT}/") for name, value in broker.items()}
    found["DASHBOARD_PORT"] = str(dashboard_settings({}).port)
    found["DASHBOARD_TRACE_URL"] = default(dashboard_settings({}).dashboard_trace_url)
    for name in service_names():
        service: Service = pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE")
        settings = load(service.settings, name, service.port, {})
        for field in service.settings.__struct_fields__:
            variable = f"{name}_port" if field == "port" else field
            if field == "port" and service.settings is Settings and variable.upper() not in PAGE.read_text():
                continue  # the page says of every service that it has one
            found[variable.upper()] = default(getattr(settings, field))
    return found


def default(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or "unset"


def test_the_table_of_settings_has_every_variable_with_its_default() -> None:
    table = rows(PAGE.read_text(encoding="utf-8"))

    assert {cells[0].strip("`"): cells[1].strip("`") for cells in table} == settings_of_the_code()
    assert all(cells[3] for cells in table)


def test_a_least_value_that_is_no_matter_of_course_is_told() -> None:
    said = {cells[0].strip("`"): cells[3] for cells in rows(PAGE.read_text(encoding="utf-8"))}
    for field in msgspec.structs.fields(Settings):
        least = [meta.ge for meta in getattr(field.type, "__metadata__", ()) if meta.ge is not None and meta.ge > 1]
        for value in least if field.name not in {"port", "nats_port"} else ():
            assert f"at least {value:,}" in said[field.name.upper()], field.name


@pytest.mark.parametrize(("suffix", "unit"), [("_S", "seconds"), ("_BYTES", "bytes"), ("_PORT", "port")])
def test_a_setting_whose_name_ends_in_a_unit_has_it(suffix: str, unit: str) -> None:
    table = rows(PAGE.read_text(encoding="utf-8"))

    assert {cells[2] for cells in table if cells[0].strip("`").endswith(suffix)} == {unit}
