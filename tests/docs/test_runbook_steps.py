"""What `just status` says to do is what the tables of docs/runbook.md say, for each warning and each reason."""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.archive.bucket import _unusable
from infra.auth.keys import FileKeys, UrlKeys
from infra.auth.principal import KeysUnavailable
from infra.broker.forecast import forecast
from infra.core.unreadable import UnreadableStreams
from infra.http.operators.dead_letters import warnings_of
from infra.local.services import ROOT
from infra.metrics import Metrics
from infra.process.measures import Measures
from infra.process.newer_facts import NewerFacts
from infra.settings import Settings
from infra.store.vocabulary import Segment
from ops.client import ServiceAddress
from ops.status.seen import Samples, SeenService
from ops.status.steps import NOT_READY, RUNBOOK, STORES, WARNINGS, NextStep, about_not_ready, about_warning, fits, place
from order_svc.admission import AdmissionControl
from order_svc.progress import Progress
from order_svc.waits import Unanswered
from point_svc.reactions import REACTIONS
from tests.docs.pages import anchors, code, rows, section
from tests.docs.test_runbook_page import PAGE
from tests.infra.broker.test_forecast import GB, at, generation, years
from tests.issuer import Issuer
from tests.ops.test_status import never_audited

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GIVES = re.compile(r"warnings(?:\.append\(|\s*\+=\s*\[|=\[)")


# What services may say ------------------------------------------------------------------------------------------------


def of_consumers() -> list[str]:
    supervisor = SimpleNamespace(trouble="paused", denied=["publish to x"])
    letters = SimpleNamespace(oldest=NOON, depth=3)
    consumer: Any = SimpleNamespace(supervisor=supervisor, dead_letters=letters)
    return list(warnings_of("point", consumer, NOON))


def of_the_stream() -> list[str]:
    found = [
        ([generation(0, 0, 1), generation(1, 1, 0.01)], Settings(port=1), at(1.02)),
        ([generation(0, 0, 1, messages=750_000)], Settings(port=1), at(7)),
        (years(9), Settings(port=1, broker_max_bytes=20 * GB), at(63)),
    ]
    return [text for infos, settings, now in found for text in forecast(infos, settings, now)]


def of_newer_code() -> list[str]:
    unreadable = UnreadableStreams()
    unreadable.add("order-1", "a fact", newer=True)
    unreadable.add("order-2", "a fact", newer=False)
    known: Any = SimpleNamespace()
    return [
        *unreadable.warnings(),
        *NewerFacts(known, [Segment(1, 2, frozenset({"order.created.pending.colour"}))]).warnings(),
    ]


def of_the_archive() -> list[str]:
    return [str(_unusable("s3://b", "no answer", "See it"))]


def of_the_audit() -> Sequence[str]:
    return never_audited()


def of_orders() -> list[str]:
    none: Any = SimpleNamespace(connection=None)
    runtime: Any = SimpleNamespace(broker=none, clock=lambda: NOON, on_recorded=[], warnings=[], tasks=[])
    progress = Progress(runtime, AdmissionControl(1, soon_s=1))
    progress.refused("overloaded: more orders than can end")
    progress._unanswered = {"point": Unanswered("point", NOON, 66)}
    return progress.warnings()


def of_the_clock() -> list[str]:
    measures = Measures("point", [], REACTIONS, lambda: NOON, Metrics())
    measures._set_back(-300.0)
    return measures.warnings()


def of_tokens(folder: Path) -> list[str]:
    path = Issuer("EdDSA").publish(folder / "keys.json")
    late = [0.0]
    file, url = FileKeys(path, lambda: late[0]), UrlKeys("http://127.0.0.1:1/keys", lambda: late[0])
    path.unlink()
    late[0] = 10.0
    asyncio.run(file.current())
    with contextlib.suppress(KeysUnavailable):
        asyncio.run(url.current())
    return [str(file.trouble), str(url.trouble)]


SAID = {
    "infra/process/app.py": lambda: of_tokens(Path(tempfile.mkdtemp())),
    "infra/process/readiness.py": lambda: [*of_consumers(), *of_the_stream()],
    "infra/process/service.py": of_the_clock,
    "infra/process/archive_watch.py": of_the_archive,
    "infra/process/newer_facts.py": of_newer_code,
    "infra/process/audit_report.py": of_the_audit,
    "order_svc/progress.py": of_orders,
}
"""By the file that gives them to `/readyz`: what a service may warn of."""


def test_whoever_warns_is_listed_here() -> None:
    files = [
        path for folder in ("infra", *(p.name for p in ROOT.glob("*_svc"))) for path in (ROOT / folder).rglob("*.py")
    ]
    found = {str(path.relative_to(ROOT)) for path in files if GIVES.search(path.read_text(encoding="utf-8"))}

    assert found == SAID.keys() - {"infra/process/readiness.py"}


def test_each_warning_is_of_one_kind_and_each_kind_is_said() -> None:
    kinds = {text: [words for words in WARNINGS if fits(words, text)] for say in SAID.values() for text in say()}

    assert {text: found for text, found in kinds.items() if len(found) != 1} == {}
    assert {found[0] for found in kinds.values()} == WARNINGS.keys()


# The tables of the page -----------------------------------------------------------------------------------------------


def shown(command: str) -> str:
    return command.format(url="http://127.0.0.1:8003", name="point")


def test_the_page_has_each_kind_of_warning_with_its_section_and_its_commands() -> None:
    expected = [
        [
            f"`{words}`",
            f"[{step.section}]({place(step.section).removeprefix(RUNBOOK)})",
            ", ".join(f"`{shown(command)}`" for command in step.commands),
        ]
        for words, step in WARNINGS.items()
    ]

    assert rows(section(PAGE, "## Warnings and their sections")) == expected


@pytest.mark.parametrize(
    "step", [*WARNINGS.values(), *NOT_READY.values(), *STORES.values()], ids=lambda step: step.section
)
def test_the_section_of_a_step_is_on_the_page_and_has_its_first_command(step: NextStep) -> None:
    where = place(step.section)

    assert where.removeprefix(f"{RUNBOOK}#") in anchors(PAGE)
    in_section = [re.sub(r":800\d", ":8003", text) for text in code(section(PAGE, f"## {step.section}"))]
    assert any(shown(step.commands[0]) in text.replace("$port", "8003") for text in in_section)


def test_the_page_has_the_command_for_each_reason() -> None:
    found = {row[0].strip("`"): row[3] for row in rows(section(PAGE, "## SagaNotReady"))}

    assert found.keys() == {*NOT_READY, "broker"}
    lacking = [reason for reason, step in NOT_READY.items() if f"`{shown(step.commands[0])}`" not in found[reason]]
    assert lacking == ["store"], "whose commands are those of its words"
    assert all(shown(step.commands[0]) in found["store"] for step in STORES.values())


# What status says -----------------------------------------------------------------------------------------------------


def seen(name: str, **told: object) -> SeenService:
    return SeenService(ServiceAddress(name, f"http://{name}"), **told)  # type: ignore[arg-type]


def test_a_warning_about_another_service_leads_to_that_one() -> None:
    order, point = seen("order"), seen("point")

    silent = about_warning(
        "point_svc has not answered since 12:03:05 UTC; 66 orders wait for it", order, [order, point]
    )
    letters = about_warning("product has 1 dead letters, the oldest for 3 s", seen("product"), [order, point])

    assert silent.next_step == (
        "see why point_svc is silent; the orders go on once it answers: docs/runbook.md#sagaorderslate"
    )
    assert silent.commands == ("curl -s http://point/readyz", "just roll")
    assert letters.next_step == "redrive or drop them: docs/runbook.md#sagadeadletters"
    assert letters.commands == ("just dlq ls",)


def test_words_of_another_version_lead_to_the_page() -> None:
    concern = about_warning("the moon is full", seen("point"), [])

    assert concern.next_step.endswith(": docs/runbook.md#runbook")
    assert concern.commands == ("curl -s http://point/readyz",)


REASONS = {
    "log_lost": ("the stream has x@1", "just rebuild coupon"),
    "stream_full": ("the stream EVENTS is full", "just stream roll"),
    "store": ("database is locked", "curl -s http://coupon/readyz"),
    "store with a way out": ("it was replaced: put it back or (just rebuild coupon)", "just rebuild coupon"),
    "store on a full disk": ("database or disk is full. Its disk is full", "df -h ${DATA_DIR:-.data}"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_service_that_is_not_ready_leads_to_the_step_for_its_reason(reason: str) -> None:
    said, command = REASONS[reason]
    samples = Samples(f'saga_ready{{reason="broker"}} 0\nsaga_ready{{reason="{reason.partition(" ")[0]}"}} 0\n')

    concern = about_not_ready(seen("coupon", not_ready=said, samples=samples))

    assert concern.what == f"coupon_svc is not ready: {said}"
    assert concern.commands[0] == command
    assert concern.next_step.startswith("docs/runbook.md#") or ": docs/runbook.md#" in concern.next_step
