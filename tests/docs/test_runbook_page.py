"""docs/runbook.md has a section for each alert, begins with the alert's command, and each of its commands works."""

import asyncio
import os
import re
import shutil
import subprocess

import pytest

from infra.local.services import ROOT
from infra.process.readiness import ready_by_reason
from tests.docs.pages import blocks, rows, section
from tests.metrics.queries import MONITORING
from tests.metrics.test_alerts import RULES
from tests.shop import PATIENCE_S, Shop

PAGE = ROOT / "docs" / "runbook.md"
ALERT = re.compile(
    r"- alert: (\w+)\n(?:.*\n)*?\s+command: \"(.*)\"\n\s+runbook_url: \"{{ \$externalLabels.docs_url }}(\S+)\""
)
ALERTS = ALERT.findall((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
INSTANCE = "{{ $labels.instance }}"
PORTS = {"8001": "ORDER_PORT", "8002": "PRODUCT_PORT", "8003": "POINT_PORT", "8004": "COUPON_PORT"}
OTHER_PROGRAMS = {"promtool": "promtool", "just nats-cli": "nats"}
"""The beginning of a command, and the program that may be missing, but not where all tests are wanted."""


def sections() -> list[str]:
    found = re.findall(r"^## (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for name in found if name.startswith("Saga") or name == "Watchdog"]


def commands(heading: str) -> list[str]:
    return [line for block in blocks(section(PAGE, heading)) for line in block.text.splitlines()]


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert sections() == sorted(set(sections()), key=sections().index)
    assert {name for name, _, _ in ALERTS} == set(sections())


@pytest.mark.parametrize(("name", "command", "url"), sorted(set(ALERTS)), ids=lambda text: text[:24])
def test_the_section_begins_with_the_alerts_command(name: str, command: str, url: str) -> None:
    assert url == f"docs/runbook.md#{name.lower()}"
    assert commands(f"## {name}")[0] == command.replace(INSTANCE, "127.0.0.1:8001")


def test_every_reason_for_which_a_service_is_not_ready_is_explained() -> None:
    class Nothing:
        relay = connection = None
        log_lost = full = store_failed = False

    broker: object = Nothing()
    reasons = ready_by_reason(broker, records=True)  # type: ignore[arg-type]

    assert [row[0].strip("`") for row in rows(section(PAGE, "## SagaNotReady"))] == list(reasons)
    assert all(f"`{reason}`" in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") for reason in reasons)


GOES_ON = "## After the cause is gone"
MINUTES = {"m": 1, "h": 60}


def minutes(text: str) -> int:
    """Of a duration of Prometheus, such as `30m`, or of people, such as `2 h 5 min`."""
    return sum(int(number) * MINUTES[unit] for number, unit in re.findall(r"(\d+) ?([mh])", text))


def test_how_long_an_alert_of_an_objective_goes_on_is_that_of_its_rules() -> None:
    told = {row[0].strip("`"): (minutes(row[1]), minutes(row[2])) for row in rows(section(PAGE, GOES_ON))}
    rules = [rule for rule in RULES if "burn" in rule.labels]

    assert {rule.labels["burn"] for rule in rules} == told.keys()
    for rule in rules:
        shorter = min(minutes(window) for window in re.findall(r":ratio_rate(\d+[mh])\b", rule.expr))
        assert (shorter, shorter + minutes(rule.keep_firing_for)) == told[rule.labels["burn"]]


def test_each_alert_of_an_objective_leads_to_how_long_it_goes_on() -> None:
    for name in {rule.alert for rule in RULES if "burn" in rule.labels}:
        assert "(#after-the-cause-is-gone)" in section(PAGE, f"## {name}"), name


def run(shop: Shop, command: str) -> subprocess.CompletedProcess[str]:
    for written, name in PORTS.items():
        command = re.sub(rf"\b{written}\b", shop.env[name], command)
    own = {name: value for name, value in os.environ.items() if not name.startswith("NATS_")}
    return subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**own, **shop.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


async def test_every_command_of_the_page_works(shop: Shop) -> None:
    await shop.register("mug", 1_000, 2)
    assert (await shop.place([("mug", 1)])).status_code == 200
    assert (await shop.place([("mug", 9)])).status_code == 409
    await shop.until_quiet()

    shown = blocks(PAGE.read_text(encoding="utf-8"))
    lines = dict.fromkeys(line for block in shown for line in block.text.splitlines())
    assert len(lines) > 10
    for line in lines:
        missing = [program for begin, program in OTHER_PROGRAMS.items() if line.startswith(begin) and not _has(program)]
        if missing:
            continue
        done = await asyncio.to_thread(run, shop, line)
        finds_nothing = " | grep " in line and done.returncode == 1
        assert done.returncode == 0 or finds_nothing, f"{line}:\n{done.stdout}{done.stderr}"
        assert done.stdout or finds_nothing, line
        assert not done.stderr or "just " in line, f"{line}:\n{done.stderr}"


def _has(program: str) -> bool:
    return shutil.which(program) is not None or bool(os.environ.get("TEST_ALL"))
