"""What an audit leaves: a report for people and machines, and the links by which a later one sees any rewrite."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from infra import files
from ops.audit.chain import HashChain
from ops.audit.cut import Cut
from ops.invariants import Finding

RULES: Final = {
    0: "history before the last checkpoint is as it was",
    1: "stock: added = available + held",
    2: "points: charged = balance + used",
    3: "a coupon is in use by at most one order",
    4: "every order ends, once and in time",
    5: "what an order's steps did fits its end",
    6: "nothing undone that was not done",
    7: "versions gapless, ids unique, causes exist",
    8: "service logs = stream",
    9: "folding from zero = live state",
    10: "one idempotency key, one order",
}
"""By number; 1 to 10 as in ops.invariants."""


class NotAReport(Exception):
    """The file that should have an earlier report has none."""


class AuditedLog(Struct):
    """A log up to `position`; `sha256` is its chain's digest (hex) there, `links` digests at earlier positions."""

    position: int
    records: int
    sha256: str
    links: dict[int, str]


class AuditedStream(Struct):
    """The stream up to `sequence`; `created`: when it was made; `messages`: how many were read by this audit."""

    sequence: int
    created: str
    messages: int


class Answers(Struct):
    """How many answers of the services were compared; those whose subject had moved on were not."""

    compared: int = 0
    moved_on: int = 0


class AuditReport(Struct, kw_only=True):
    """`since`: the cut of the checkpoint this audit went on from; null: it began at the beginning."""

    verdict: str
    made_at: datetime
    took_s: float
    since: Cut | None
    cut: Cut
    at_rest: bool
    logs: dict[str, AuditedLog]
    stream: AuditedStream
    facts: dict[str, int]
    """By name, those this audit read in the logs."""
    orders: dict[str, int]
    """How all orders there are stand: CONFIRMED, PENDING, or the reason they were canceled."""
    subjects: dict[str, int]
    """Products, accounts, coupons and orders whose sums and endings were checked."""
    answers: Answers
    findings_by_rule: dict[int, int]
    findings: list[Finding]
    """As they were found; beyond a hundred of a kind they are only counted."""

    @property
    def good(self) -> bool:
        return not self.findings


def audited(chain: HashChain) -> AuditedLog:
    return AuditedLog(chain.position, chain.records, chain.digest, chain.links)


def count(findings: list[Finding]) -> dict[int, int]:
    return dict(sorted(Counter(finding.invariant for finding in findings).items()))


def write(report: AuditReport, path: Path) -> None:
    """Raises OSError."""
    files.make_folder(path.parent)
    files.write(path, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def read(path: Path) -> AuditReport:
    """Raises NotAReport."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=AuditReport)
    except (OSError, msgspec.DecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NotAReport(f"{path} cannot be used as the report of an earlier audit: {why}") from error
