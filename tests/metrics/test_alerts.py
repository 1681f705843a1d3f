"""Each alert fires on its fault, is silent just under it, and ends with it; nothing fires without a fault.

promtool plays the series; no server runs. What fires is asked of the series ALERTS.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from msgspec import Struct, field, yaml

from infra.local.services import service_names
from tests.docs.pages import ROOT
from tests.metrics import promtool

MONITORING = ROOT / "docs" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
NAMES = re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))


class Rule(Struct, forbid_unknown_fields=True):
    """A rule that alerts. `page` is the dashboard's, `dashboard` Grafana's."""

    class Annotations(Struct, forbid_unknown_fields=True):
        summary: str
        command: str
        runbook_url: str
        page: str
        dashboard: str

    alert: str
    expr: str
    labels: dict[str, str]
    annotations: Annotations
    for_: str = field(default="", name="for")
    keep_firing_for: str = ""


class _Group(Struct):
    rules: list[Rule]


class _Groups(Struct):
    groups: list[_Group]


RULES = [one for group in yaml.decode(ALERTS.read_bytes(), type=_Groups).groups for one in group.rules]
FIRING = 'group by (alertname, severity, burn) (ALERTS{alertstate="firing", alertname!="Watchdog"})'


class Values(NamedTuple):
    """A series: its value at the start, and what is added each interval."""

    start: float
    step: float = 0.0

    def lasting(self, intervals: int) -> str:
        return f"{self.start:g}+{self.step:.9g}x{intervals}"

    def then(self, after: "Values", at: int, end: int) -> str:
        """These up to the interval `at`; then those of `after`, which go on from there if they are a counter's."""
        begins = self.start + self.step * at + after.step if self.step or after.step else after.start
        return f"{self.lasting(at)} {begins:.9g}+{after.step:.9g}x{end - at - 1}"


Series = Mapping[str, Values]
Fired = Sequence[tuple[str, ...]]
"""Name and severity of alerts that fire; with a burn rate also its name."""

REASONS = ("broker", "consumer", "log_lost", "relay", "relay_catching_up", "store", "stream_full")


def of(name: str, service: str = "order_svc", **labels: str) -> str:
    given = {"service": service, **labels}
    return name + "{" + ", ".join(f'{label}="{value}"' for label, value in given.items()) + "}"


ENDED_IN_TIME = of("saga_order_end_duration_seconds_bucket", end="confirmed", le="5.0")
ACCEPTED = of("saga_orders_accepted_total")
CANCELED = of("saga_orders_ended_total", end="canceled", reason="points-insufficient")
COMPENSATED = of("saga_order_compensation_duration_seconds_bucket", le="10.0")
REFUSED = of("saga_orders_refused_total", cause="overload")
GOOD = of("http_server_request_duration_seconds_count", http_response_status_code="200")
FAILED = of("http_server_request_duration_seconds_count", http_response_status_code="500")
UNAVAILABLE = of("http_server_request_duration_seconds_count", http_response_status_code="503")
CONSUMER = {"consumer": "order-hears-coupon-used"}


def quiet() -> dict[str, Values]:
    """A system that is well and has nothing to do."""
    found = {of("up", f"{name}_svc", job="saga"): Values(1) for name in service_names()}
    for name in service_names():
        service = f"{name}_svc"
        found |= {of("saga_ready", service, reason=reason): Values(1) for reason in REASONS}
        for gauge in ("saga_relay_lag_seconds", "saga_clock_backward_total"):
            found[of(gauge, service)] = Values(0)
        found[of("saga_broker_connected", service)] = Values(1)
        found[of("saga_permission_denied_total", service, kind="publish")] = Values(0)
    for gauge in (
        *("saga_oldest_pending_order_age_seconds", "saga_oldest_uncompensated_order_age_seconds"),
        *("saga_stream_bytes", "saga_stream_overdue", "saga_stream_unsealed_generations", "saga_audit_age_seconds"),
    ):
        found[of(gauge)] = Values(0)
    for gauge in ("saga_consumer_lag_seconds", "saga_consumer_pending_messages", "saga_dead_letters"):
        found[of(gauge, **CONSUMER)] = Values(0)
    found[of("saga_dead_letter_oldest_age_seconds", **CONSUMER)] = Values(0)
    for counter in ("saga_consumer_redelivered_total", "saga_hear_delay_seconds_count"):
        found[of(counter, **CONSUMER)] = Values(0)
    for bound in ("0.1", "0.25", "0.5", "+Inf"):
        found[of("saga_commit_duration_seconds_bucket", le=bound)] = Values(0)
    found |= dict.fromkeys((ACCEPTED, ENDED_IN_TIME, CANCELED, COMPENSATED, REFUSED, GOOD, UNAVAILABLE), Values(0))
    found[of("saga_auth_rejections_total", reason="unauthenticated")] = Values(0)
    found[of("saga_stream_limit_bytes")] = Values(100)
    found[of("saga_audit_good")] = Values(1)
    return found


def play(
    folder: Path, series: Mapping[str, str], fires: Mapping[int, Fired], interval_s: int = 30, query: str = FIRING
) -> None:
    """Let promtool play these series, and compare what fires at these intervals."""

    def expected(fired: Fired) -> list[dict[str, Any]]:
        names = ("alertname", "severity", "burn")
        labels = [", ".join(f'{name}="{one}"' for name, one in zip(names, each, strict=False)) for each in fired]
        return [{"labels": f"{{{each}}}", "value": 1} for each in labels]

    test = {
        "rule_files": [str(MONITORING / "recording.yml"), str(ALERTS)],
        "evaluation_interval": f"{interval_s}s",
        "tests": [
            {
                "interval": f"{interval_s}s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {"expr": query, "eval_time": f"{at * interval_s}s", "exp_samples": expected(fired)}
                    for at, fired in fires.items()
                ],
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(json.dumps(test))  # JSON is YAML, too
    promtool("test", "rules", file)


class Case(NamedTuple):
    """A fault: the series that it changes; the same just under it; what fires, and after how many half minutes."""

    fires: Fired
    bad: Series
    under: Series
    after: int
    well: Series = MappingProxyType({})
    """What the series are without the fault, if they are not as in a quiet system."""


def gauge(alert: str, severity: str, name: str, bad: float, under: float, after: int, **labels: str) -> Case:
    return Case([(alert, severity)], {of(name, **labels): Values(bad)}, {of(name, **labels): Values(under)}, after)


def counter(alert: str, severity: str, name: str, bad: float, under: float, after: int, **labels: str) -> Case:
    series = of(name, **labels)
    return Case([(alert, severity)], {series: Values(0, bad)}, {series: Values(0, under)}, after, {series: Values(0)})


def commits(slow: float) -> dict[str, Values]:
    """100 commits each interval, of which this share takes 0.3 s."""
    found = {of("saga_commit_duration_seconds_bucket", le=le): Values(0, 100) for le in ("0.5", "+Inf")}
    fast = Values(0, 100 * (1 - slow))
    return found | {of("saga_commit_duration_seconds_bucket", le=le): fast for le in ("0.1", "0.25")}


HEARD, AGAIN = of("saga_hear_delay_seconds_count", **CONSUMER), of("saga_consumer_redelivered_total", **CONSUMER)
PENDING, LAG = of("saga_consumer_pending_messages", **CONSUMER), of("saga_consumer_lag_seconds", **CONSUMER)
BYTES = of("saga_stream_bytes")
FREE, FILLS = of("saga_data_free_bytes", "point_svc"), of("saga_data_fill_bytes_per_second", "point_svc")

CASES = {
    "order stuck": gauge("SagaOrderStuck", "page", "saga_oldest_pending_order_age_seconds", 46, 45, 3),
    "compensation stuck": gauge(
        "SagaCompensationStuck", "page", "saga_oldest_uncompensated_order_age_seconds", 61, 60, 3
    ),
    "dead letter": gauge("SagaDeadLetters", "ticket", "saga_dead_letters", 1, 0, 3, **CONSUMER),
    "old dead letter": gauge(
        "SagaDeadLettersOld", "page", "saga_dead_letter_oldest_age_seconds", 901, 900, 3, **CONSUMER
    ),
    "relay behind": gauge("SagaRelayBehind", "page", "saga_relay_lag_seconds", 5.1, 5, 5),
    "consumer behind": gauge("SagaConsumerBehind", "page", "saga_consumer_lag_seconds", 10.1, 10, 5, **CONSUMER),
    "consumer falls back": Case(
        [("SagaConsumerFallsBack", "ticket")],
        {PENDING: Values(0, 5), LAG: Values(3)},
        {PENDING: Values(50), LAG: Values(3)},
        25,
    ),
    "stream nearly full": Case(
        [("SagaStreamFilling", "page"), ("SagaStreamFilling", "ticket")],
        {BYTES: Values(96)},
        {BYTES: Values(0)},
        12,
    ),
    "stream fills": gauge("SagaStreamFilling", "ticket", "saga_stream_bytes", 81, 80, 12),
    "stream fills soon": Case(
        [("SagaStreamFillsSoon", "ticket")],
        {BYTES: Values(51, 0.02)},  # 57 in a day
        {BYTES: Values(51, 0.01)},
        100,
    ),
    "disk fills soon": Case(
        [("SagaDiskFillsSoon", "ticket")],
        {FREE: Values(86_399), FILLS: Values(1)},
        {FREE: Values(86_400), FILLS: Values(1)},
        61,
        {FREE: Values(86_400), FILLS: Values(0)},
    ),
    "roll-over overdue": gauge("SagaRollOverOverdue", "ticket", "saga_stream_overdue", 1, 0, 11),
    "generation not sealed": gauge("SagaGenerationUnsealed", "ticket", "saga_stream_unsealed_generations", 1, 0, 31),
    "not ready": Case(
        [("SagaNotReady", "page")],
        {of("saga_ready", reason="store"): Values(0)},
        {of("saga_ready", reason="store"): Values(1)},
        5,
    ),
    "broker gone": Case(
        [("SagaBrokerGone", "page")],
        {of("saga_broker_connected", "point_svc"): Values(0)},
        {of("saga_broker_connected", "point_svc"): Values(1)},
        2,
    ),
    "redeliveries": Case(
        [("SagaRedeliveries", "ticket")],
        {HEARD: Values(0, 10_000), AGAIN: Values(0, 101)},
        {HEARD: Values(0, 10_000), AGAIN: Values(0, 99)},
        25,
        {HEARD: Values(0, 10_000)},
    ),
    "slow commits": Case([("SagaCommitSlow", "ticket")], commits(0.02), commits(0.005), 12, commits(0)),
    "clock back": counter("SagaClockBackward", "ticket", "saga_clock_backward_total", 1, 0.4, 12),
    "permission denied": counter(
        "SagaPermissionDenied", "page", "saga_permission_denied_total", 1, 0, 2, kind="publish"
    ),
    "service down": Case(
        [("SagaTargetDown", "page")],
        {of("up", "point_svc", job="saga"): Values(0)},
        {of("up", "point_svc", job="saga"): Values(1)},
        3,
    ),
    "audit failed": gauge("SagaAuditFailed", "page", "saga_audit_good", 0, 1, 3),
    "audit old": gauge("SagaAuditOld", "ticket", "saga_audit_age_seconds", 25 * 3_600 + 1, 25 * 3_600, 21),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_alert_fires_on_its_fault_and_ends_with_it(case: Case, tmp_path: Path) -> None:
    well, end = {**quiet(), **case.well}, case.after + 45
    series = {name: values.lasting(end) for name, values in well.items()}
    series |= {
        name: values.then(well[name]._replace(start=0) if values.step else well[name], case.after, end)
        for name, values in case.bad.items()
    }

    play(tmp_path, series, {case.after: case.fires, end: []})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_alert_is_silent_just_under_its_fault(case: Case, tmp_path: Path) -> None:
    end = case.after + 10
    series = {name: values.lasting(end) for name, values in {**quiet(), **case.well, **case.under}.items()}

    play(tmp_path, series, dict.fromkeys(range(0, end, 5), ()))


@pytest.mark.parametrize("reason", ["store", "log_lost"])
def test_a_session_that_ended_because_of_the_store_is_no_missing_broker(reason: str, tmp_path: Path) -> None:
    no_session = {of("saga_broker_connected", "point_svc"): Values(0)}
    store = {of("saga_ready", "point_svc", reason=reason): Values(0)}
    series = {name: values.lasting(10) for name, values in {**quiet(), **no_session, **store}.items()}

    play(tmp_path, series, {8: [("SagaNotReady", "page")]})


# Where they lead to ---------------------------------------------------------------------------------------------------

LINKED = {"page": "dashboard_url", "dashboard": "grafana_url", "runbook_url": "docs_url"}


def test_every_alert_leads_to_the_dashboard_to_grafana_and_to_its_section() -> None:
    for rule in RULES:
        for name, base in LINKED.items():
            assert getattr(rule.annotations, name).startswith(f"{{{{ $externalLabels.{base} }}}}"), rule.alert
    config = (MONITORING / "prometheus.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^    (\w+_url):", config)) == set(LINKED.values())


def test_links_and_summary_are_made_when_it_fires(tmp_path: Path) -> None:
    age, count = of("saga_oldest_pending_order_age_seconds"), of("saga_orders_pending")
    series = {**quiet(), age: Values(46), count: Values(3)}
    test = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "external_labels": {"dashboard_url": "http://board:8000", "docs_url": "http://docs/"},
                "input_series": [{"series": name, "values": one.lasting(9)} for name, one in series.items()],
                "alert_rule_test": [
                    {
                        "eval_time": "3m",
                        "alertname": "SagaOrderStuck",
                        "exp_alerts": [
                            {
                                "exp_labels": {"severity": "page", "service": "order_svc"},
                                "exp_annotations": {
                                    "summary": "3 orders are in flight, the oldest for 46s; its deadline is past",
                                    "command": "curl -s 'http://127.0.0.1:8001/ops/orders?status=PENDING&limit=5'",
                                    "page": "http://board:8000/orders?status=PENDING",
                                    "dashboard": "/d/saga/saga?var-service=order_svc",
                                    "runbook_url": "http://docs/docs/runbook.md#sagaorderstuck",
                                },
                            }
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))

    promtool("test", "rules", tmp_path / "test.yml")


# Objectives -----------------------------------------------------------------------------------------------------------

BURNS = (("fast", "page", 14.4), ("middle", "page", 6.0), ("slow", "ticket", 3.0), ("trickle", "ticket", 1.0))
OBJECTIVES = ("SagaCompensationsLate", "SagaOrdersLate", "SagaOrdersRefused", "SagaRequestsFail")


def burning(factor: float, events: float = 100) -> dict[str, Values]:
    """So many events of each kind in an interval; the budget of each objective is burnt this much too fast."""
    bad, refused = 0.001 * factor, 0.01 * factor
    return {
        ACCEPTED: Values(0, events * (1 - refused)),
        REFUSED: Values(0, events * refused),
        ENDED_IN_TIME: Values(0, events * (1 - refused) * (1 - bad)),
        CANCELED: Values(0, events),
        COMPENSATED: Values(0, events * (1 - bad)),
        GOOD: Values(0, events * (1 - bad)),
        FAILED: Values(0, events * bad),
    }


@pytest.mark.parametrize("factor", [14.5, 14.3, 6.1, 5.9, 3.1, 2.9, 1.1, 0.9])
def test_an_objective_alerts_by_how_fast_its_budget_burns(factor: float, tmp_path: Path) -> None:
    series = {name: one.lasting(165) for name, one in (quiet() | burning(factor)).items()}
    burns = [(burn, severity) for burn, severity, least in BURNS if factor > least]

    play(tmp_path, series, {165: [(alert, severity, burn) for alert in OBJECTIVES for burn, severity in burns]}, 150)


def test_an_objective_that_is_met_again_ends_the_fast_alert(tmp_path: Path) -> None:
    bad, well = quiet() | burning(20), quiet() | burning(0)
    series = {name: values.then(well[name], 30, 60) for name, values in bad.items()}
    fast = FIRING.replace("}", ', burn="fast"}')

    play(tmp_path, series, {30: [(alert, "page", "fast") for alert in OBJECTIVES], 45: []}, 60, fast)


def test_a_few_bad_events_at_night_page_nobody(tmp_path: Path) -> None:
    few = burning(50, 0.2)  # 12 an hour, half of the orders are refused
    series = {name: one.lasting(90) for name, one in (quiet() | few).items()}

    play(tmp_path, series, {at: [] for at in range(0, 90, 5)}, 60)


# Nothing is wrong -----------------------------------------------------------------------------------------------------


def test_nothing_fires_at_zero_traffic(tmp_path: Path) -> None:
    series = {name: values.lasting(100) for name, values in quiet().items()}

    play(tmp_path, series, {at: [] for at in range(0, 100, 5)}, interval_s=900)  # a day


def test_nothing_fires_on_the_first_start(tmp_path: Path) -> None:
    """The services come after Prometheus, have no session at first, and their first orders are late."""
    series = {name: f"_ _ {values.lasting(118)}" for name, values in quiet().items() if "audit" not in name}
    series |= {name: f"0 0 {Values(1).lasting(118)}" for name in series if name.startswith("up")}
    series |= {name: f"_ _ 0 {Values(1).lasting(117)}" for name in series if name.startswith("saga_broker_connected")}
    series |= {name: f"_ _ 0 0 {Values(1).lasting(116)}" for name in series if 'reason="relay_catching_up"' in name}
    series[ACCEPTED] = f"_ _ {Values(0, 10).lasting(118)}"
    series[ENDED_IN_TIME] = f"_ _ 0 5 {Values(15, 10).lasting(116)}"
    series[BYTES] = f"_ _ {Values(0, 0.01).lasting(118)}"

    play(tmp_path, series, {at: [] for at in range(0, 120, 2)}, interval_s=15)


def test_what_is_denied_before_the_first_scrape_pages_too(tmp_path: Path) -> None:
    """A wrong grant is found in the first session: the series begins with it, and does not rise."""
    denied = of("saga_permission_denied_total", "point_svc", kind="publish")
    series = {name: values.lasting(60) for name, values in quiet().items()}
    series[denied] = f"_x10 {Values(1).lasting(50)}"

    play(tmp_path, series, {9: [], 12: [("SagaPermissionDenied", "page")], 59: []})


def test_a_rolling_restart_pages_nobody(tmp_path: Path) -> None:
    """Each service is away for half a minute, one after another; its counters begin again; some orders get 503."""
    series = {name: values.lasting(240) for name, values in (quiet() | burning(0)).items()}
    for number, service in enumerate(service_names()):
        own = {name for name in series if f'service="{service}_svc"' in name}
        before, after = 40 + 4 * number, 240 - 40 - 4 * number - 2
        for name in own:
            values = (quiet() | burning(0))[name]
            away = "0 0" if name.startswith("up") else "_ _"
            series[name] = f"{values.lasting(before - 1)} {away} {values.lasting(after)}"
            if name.startswith("saga_broker_connected") or 'reason="relay_catching_up"' in name:
                series[name] = f"{values.lasting(before - 1)} {away} 0 {values.lasting(after - 1)}"
    refused = of("saga_orders_refused_total", cause="draining")
    series[refused] = f"{Values(0).lasting(39)} _ _ {Values(2).lasting(198)}"

    play(tmp_path, series, {at: [] for at in range(0, 240, 2)}, interval_s=15)


def test_a_service_that_prometheus_does_not_know_is_missed(tmp_path: Path) -> None:
    series = {name: one.lasting(30) for name, one in quiet().items() if not name.startswith('up{service="point_svc"')}

    play(tmp_path, series, {9: [], 12: [("SagaServiceMissing", "page")]})


def test_a_system_that_was_never_audited_is_told_after_a_day(tmp_path: Path) -> None:
    series = {name: one.lasting(300) for name, one in quiet().items() if not name.startswith("saga_audit_")}

    play(tmp_path, series, {287: [], 289: [("SagaNeverAudited", "ticket")]}, interval_s=300)


def test_more_refusals_than_usual_are_a_ticket(tmp_path: Path) -> None:
    rejected = of("saga_auth_rejections_total", reason="unauthenticated")
    usual = {name: one.lasting(300) for name, one in quiet().items()}
    often = usual | {rejected: Values(0, 60).then(Values(0, 800), 270, 300)}
    seldom = usual | {rejected: Values(0, 60).then(Values(0, 500), 270, 300)}

    play(tmp_path, often, {270: [], 300: [("SagaAuthRejections", "ticket")]}, interval_s=60)
    play(tmp_path, seldom, {270: [], 300: []}, interval_s=60)


def test_every_alert_is_played() -> None:
    played = {one[0] for case in CASES.values() for one in case.fires}

    assert played | set(OBJECTIVES) | {
        "SagaServiceMissing",
        "SagaNeverAudited",
        "SagaAuthRejections",
        "Watchdog",
    } == set(NAMES)
