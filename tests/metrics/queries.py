"""What the rules and the dashboard ask for: the selectors of series in their queries."""

import json
import re
from typing import NamedTuple

from tests.docs.pages import ROOT

MONITORING = ROOT / "docs" / "monitoring"
RULES = ("recording.yml", "alerts.yml")

NAME = r"(?:saga_|http_server_)[a-z_]+"
SELECTOR = re.compile(rf"\b({NAME})(?:\{{([^}}]*)\}})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
RECORDED = re.compile(r"\bsaga:\w+:\w+")
EXPORTED_AS = re.compile(r"_(?:bucket|sum|count)$")
OF_PROMETHEUS = frozenset({"service", "job", "instance", "le"})
"""Labels that the scrape or the format adds."""


class Selector(NamedTuple):
    name: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator and value."""

    @property
    def metric(self) -> str:
        """The name of the metric, if this is a series of a histogram."""
        return EXPORTED_AS.sub("", self.name)

    def matches(self, name: str, labels: dict[str, str]) -> bool:
        """Whether a series that a service exports is selected; labels of the scrape are left out."""
        return name == self.name and all(
            label in {"service", "job", "instance"} or _agrees(labels.get(label, ""), operator, value)
            for label, operator, value in self.matchers
        )


def _agrees(found: str, operator: str, wanted: str) -> bool:
    equal = bool(re.fullmatch(wanted, found)) if operator.endswith("~") else found == wanted
    return equal != operator.startswith("!")


def rules() -> str:
    return "\n".join((MONITORING / name).read_text(encoding="utf-8") for name in RULES)


def dashboard_queries() -> list[str]:
    """The dashboard's queries, as Prometheus gets them."""
    board = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [one["expr"] for one in board["annotations"]["list"]]
    return [query.replace("$__rate_interval", "1m").replace("$service", ".*") for query in asked]


def selectors() -> set[Selector]:
    asked = "\n".join([rules(), *dashboard_queries()])
    return {Selector(name, tuple(MATCHER.findall(matchers))) for name, matchers in SELECTOR.findall(asked)}
