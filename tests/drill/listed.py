"""The list of faults in docs/runbook.md, and its words as patterns."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from tests.docs.pages import ROOT, rows, section

PAGE = ROOT / "docs" / "runbook.md"
PORTS = {"8001": "ORDER_PORT", "8002": "PRODUCT_PORT", "8003": "POINT_PORT", "8004": "COUPON_PORT"}
NUMBER = re.compile(r"\d[\d,.:]*")


class Fault(NamedTuple):
    """A row of the list: what `just status` says first, what `/readyz` of a service says, and the alert."""

    sentence: str
    service: str
    readiness: str
    alert: str


def faults() -> dict[str, Fault]:
    """The rows, by the name of the fault."""
    found = {}
    for name, sentence, readiness, alert in rows(section(PAGE, "## Faults and their words")):
        service, _, words = readiness.partition("`")
        found[name] = Fault(
            sentence.strip("`"), service.partition("_svc")[0], words.rstrip("`"), alert.partition("]")[0].strip("[")
        )
    return found


def says(words: str, text: str, env: Mapping[str, str]) -> bool:
    """Whether the text begins with these words of the page; its numbers, its times and what … is for may differ."""
    pattern = re.escape(words).replace("…", ".*")
    for port, name in PORTS.items():
        pattern = pattern.replace(port, f"PORT{name}")
    pattern = NUMBER.sub(r"[0-9][0-9,.:]*", pattern.replace("127\\.0\\.0\\.1", "HOST"))
    for name in PORTS.values():
        pattern = pattern.replace(f"PORT{name}", env[name])
    return re.match(pattern.replace("HOST", re.escape("127.0.0.1")), text.replace("`", ""), re.DOTALL) is not None
