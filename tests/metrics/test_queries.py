"""Rules and dashboard ask only for what the services export, by labels that it has."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, yaml

from infra.local.services import service_names
from tests.metrics import promtool
from tests.metrics.exported import all_kinds, service_of
from tests.metrics.queries import EXPORTED_AS, MONITORING, OF_PROMETHEUS, RECORDED, dashboard_queries, rules, selectors

BY = re.compile(r"(\w+) by \(([^)]*)\) \(.*?((?:saga_|http_server_)[a-z_]+)")
INHIBITS = re.compile(r"source_matchers: \[(.*)\]\n +target_matchers: \[(.*)\](?:\n +equal: \[(.*)\])?")
LABEL_NAME = re.compile(r"[a-z_]+")
LEGEND = re.compile(r"{{(\w+)}}")


async def test_every_name_and_label_is_exported(tmp_path: Path) -> None:
    kinds = await all_kinds(tmp_path)

    asked = selectors()
    assert len({one.metric for one in asked}) > 30
    assert {one.metric for one in asked} <= kinds.keys()
    labels = {(one.metric, label) for one in asked for label, _, _ in one.matchers if label not in OF_PROMETHEUS}
    assert [(name, label) for name, label in labels if label not in kinds[name].labels] == []


async def test_the_dashboard_shows_every_metric(tmp_path: Path) -> None:
    shown = re.findall(r"\b(?:saga_|http_server_)[a-z_]+", "\n".join(dashboard_queries()))

    assert {EXPORTED_AS.sub("", name) for name in shown} == (await all_kinds(tmp_path)).keys()


async def test_queries_group_by_labels_that_there_are(tmp_path: Path) -> None:
    kinds = await all_kinds(tmp_path)

    found = [
        (label.strip(), EXPORTED_AS.sub("", name))
        for query in [*dashboard_queries(), rules()]
        for _, labels, name in BY.findall(query)
        for label in labels.split(",")
    ]
    assert found
    assert [(label, name) for label, name in found if label not in {*kinds[name].labels, *OF_PROMETHEUS}] == []


def test_every_recorded_name_that_is_asked_for_is_recorded() -> None:
    recorded = set(re.findall(r"- record: (\S+)", rules()))
    asked = re.sub(r"- record: \S+", "", rules()) + "\n".join(dashboard_queries())

    assert set(RECORDED.findall(asked)) == recorded


def test_the_dashboard_is_one_and_its_queries_can_be_read(tmp_path: Path) -> None:
    board = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    file = tmp_path / "queries.yml"
    asked = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(dashboard_queries())]
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": asked}]}))

    promtool("check", "rules", "--lint=none", file)
    assert len(set(ids)) == len(ids)
    assert all(panel["description"] for panel in board["panels"])
    assert board["uid"] == "saga"


def test_the_files_are_as_prometheus_wants_them() -> None:
    promtool("check", "rules", *(MONITORING / name for name in ("recording.yml", "alerts.yml")))
    promtool("check", "config", MONITORING / "prometheus.yml")


def test_long_windows_are_read_seldom_and_no_alert_finds_them_stale() -> None:
    groups = re.split(r"(?m)^  - name: ", (MONITORING / "recording.yml").read_text(encoding="utf-8"))[1:]
    long = [group for group in groups if re.search(r"_rate\d+d\n", group)]

    assert len(long) == 4
    for group in long:
        interval = re.search(r"(?m)^    interval: (\d)m$", group)
        assert interval is not None
        assert 1 <= int(interval[1]) <= 4  # after five minutes a value is stale
        assert not re.search(r"_rate\d+[mh]\n", group)


def test_alertmanager_silences_only_alerts_that_there_are() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", rules()))
    named = re.findall(r"\b(?:Saga\w+|Watchdog)\b", (MONITORING / "alertmanager.yml").read_text(encoding="utf-8"))

    assert len(named) > 5
    assert set(named) <= alerts


class Route(Struct, forbid_unknown_fields=True):
    receiver: str
    matchers: list[str] = []
    group_by: list[str] = []
    routes: list["Route"] = []
    group_wait: str = ""
    group_interval: str = ""
    repeat_interval: str = ""


class Inhibition(Struct, forbid_unknown_fields=True):
    source_matchers: list[str]
    target_matchers: list[str]
    equal: list[str] = []


class Receiver(Struct):
    """Its integrations, such as `webhook_configs`, are the operator's."""

    name: str


class AlertmanagerConfig(Struct, forbid_unknown_fields=True):
    """The parts of Alertmanager's configuration that the example has; amtool would know all."""

    route: Route
    receivers: list[Receiver]
    inhibit_rules: list[Inhibition] = []


MATCHES = re.compile(r'(\w+) ?(=~|!~|!=|=) ?(?:"([^"]*)"|([\w.-]+))')
PERIOD = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")


def test_the_alertmanagers_file_is_as_it_wants_it() -> None:
    config = yaml.decode((MONITORING / "alertmanager.yml").read_bytes(), type=AlertmanagerConfig)
    routes = [config.route, *config.route.routes]

    assert not config.route.matchers, "the first route takes all alerts"
    assert {one.receiver for one in routes} == {one.name for one in config.receivers}
    pairs = [one for rule in config.inhibit_rules for one in (rule.source_matchers, rule.target_matchers)]
    for matcher in [text for matchers in [*pairs, *(one.matchers for one in routes)] for text in matchers]:
        found = MATCHES.fullmatch(matcher)
        assert found, matcher
        re.compile(found[3] or found[4])
    periods = [one for route in routes for one in (route.group_wait, route.group_interval, route.repeat_interval)]
    assert all(PERIOD.fullmatch(one) for one in periods if one)
    assert all(LABEL_NAME.fullmatch(one) for rule in config.inhibit_rules for one in rule.equal)


def silenced(target: Mapping[str, str], source: Mapping[str, str]) -> bool:
    """Whether Alertmanager sends no `target` while `source` fires, by the rules of the example."""

    def matches(alert: Mapping[str, str], matchers: str) -> bool:
        parts = [re.fullmatch(r"(\w+) =(~?) \"?(.*?)\"?", one.strip(" '")) for one in matchers.split(",")]
        return all(part and re.fullmatch(part[3], alert.get(part[1], "")) for part in parts)

    return any(
        matches(source, by) and matches(target, what) and all(source[one] == target[one] for one in equal.split())
        for by, what, equal in INHIBITS.findall((MONITORING / "alertmanager.yml").read_text(encoding="utf-8"))
    )


def test_a_broker_that_is_gone_silences_its_consequences_alone() -> None:
    gone = {"alertname": "SagaBrokerGone", "service": "point_svc", "severity": "page"}
    not_ready = {"alertname": "SagaNotReady", "service": "point_svc", "severity": "page"}

    assert silenced({"alertname": "SagaOrderStuck", "service": "order_svc"}, gone)
    assert silenced(not_ready | {"reason": "broker"}, gone)
    assert not silenced(not_ready | {"reason": "log_lost"}, gone)
    assert not silenced(not_ready | {"reason": "store", "service": "coupon_svc"}, gone)
    assert not silenced({"alertname": "SagaDeadLetters", "severity": "ticket"}, gone)
    assert silenced({"alertname": "SagaStreamFilling", "severity": "ticket"}, gone | {"alertname": "SagaStreamFilling"})


def test_prometheus_scrapes_every_service_at_its_default_port() -> None:
    config = (MONITORING / "prometheus.yml").read_text(encoding="utf-8")
    scraped = re.findall(r'targets: \["127.0.0.1:(\d+)"\], labels: {service: (\w+)_svc}', config)

    assert {name: int(port) for port, name in scraped} == {name: service_of(name).port for name in service_names()}
