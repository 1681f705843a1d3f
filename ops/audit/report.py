"""The report of an audit, for people and machines. By its links a later audit sees whether a log was rewritten."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from infra import files
from ops.audit.chain import HashChain
from ops.audit.cut import Cut
from ops.errors import Unusable
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
"""The invariants by number; 1 to 10 as in ops.invariants."""


class NotAReport(Unusable):
    """The file is not the report of an earlier audit."""


class AuditedLog(Struct):
    """A log up to `position`. `sha256`: its chain's digest there, in hex. `links`: digests at earlier positions."""

    position: int
    records: int
    sha256: str
    links: dict[int, str]


class AuditedStream(Struct):
    """The stream up to `sequence`. `created`: when it was made. `messages`: how many this audit read."""

    sequence: int
    created: str
    messages: int


class Answers(Struct):
    """How many answers were compared, and how many were not, because their subject had changed since the cut."""

    compared: int = 0
    moved_on: int = 0


class AuditReport(Struct, kw_only=True):
    """`since`: the cut of the checkpoint that this audit continued from; null: it began at the beginning."""

    verdict: str
    made_at: datetime
    took_s: float
    since: Cut | None
    cut: Cut
    at_rest: bool
    logs: dict[str, AuditedLog]
    stream: AuditedStream
    facts: dict[str, int]
    """The number of facts that this audit read in the logs, by name."""
    orders: dict[str, int]
    """The number of orders by status: CONFIRMED, PENDING, or the reason of the cancel."""
    subjects: dict[str, int]
    """The number of products, accounts, coupons and orders that were checked."""
    answers: Answers
    findings_by_rule: dict[int, int]
    findings: list[Finding]
    """In the order in which they were found; beyond a hundred of a kind they are only counted."""

    @property
    def good(self) -> bool:
        return not self.findings


def audited(chain: HashChain) -> AuditedLog:
    return AuditedLog(chain.position, chain.records, chain.digest, chain.links)


def count(findings: list[Finding]) -> dict[int, int]:
    return dict(sorted(Counter(finding.invariant for finding in findings).items()))


def write(report: AuditReport, path: Path) -> None:
    """Write the report to this file as JSON, durably; make its folder if missing. Raises OSError."""
    files.make_folder(path.parent)
    files.write(path, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def read(path: Path) -> AuditReport:
    """Read the report of an earlier audit. Raises NotAReport."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=AuditReport)
    except (OSError, msgspec.DecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NotAReport(f"{path} cannot be used as the report of an earlier audit: {why}") from error
