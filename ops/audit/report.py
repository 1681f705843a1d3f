"""The report of an audit, as data and as a JSON file. By its digests a later audit sees if a log was rewritten."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from contracts.fact import DECODE_ERRORS
from infra import files
from ops.audit.chain import HashChain
from ops.audit.cut import Cut
from ops.errors import Unusable
from ops.invariants import Finding, Newer

RULES: Final = {
    0: "history before the last checkpoint is as it was, and each log's file is whole",
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
    11: "every message of the stream is a service's",
}
"""The invariants by number, for people: 1 to 10 as in ops.invariants; 0 compares with the last checkpoint or report,
and with `--full` has SQLite check each file.

11 is about messages, not about history: a foreign message changes nothing that the services recorded.
"""


class NotAReport(Unusable):
    """The file cannot be read, or is not the report of an earlier audit. The message says which."""


class AuditedLog(Struct):
    """A log from its beginning up to `position` (inclusive), with its number of records.

    `sha256`: the digest (hex) of its hash chain at `position`. `links`: position → digest (hex), at 0, at every
    10,000th position and where the earlier report's log ended.
    """

    position: int
    records: int
    sha256: str
    links: dict[int, str]


class AuditedStream(Struct):
    """The stream up to `sequence` of the newest generation. `created`: when the oldest generation was made.

    `messages`: how many messages this audit read.
    """

    sequence: int
    created: str
    messages: int


class Answers(Struct):
    """How many answers of services were `compared`; `moved_on`: how many not, as their subject changed after the cut.

    `newer`: how many were refused, because newer code recorded a fact of their subject. `not_asked`: the services
    (without `_svc`) that were not asked, because they were not ready.
    """

    compared: int = 0
    moved_on: int = 0
    newer: int = 0
    not_asked: list[str] = []


class NewerCode(Struct):
    """What newer code recorded, and this version does not know.

    `facts`: how many facts, and messages of services that this version does not have. The facts are compared, but not
    judged; nor is what they may explain (see ops.invariants.unjudged). `first`: the first hundred of both, each with
    where it is and what of it is unknown. `fields`: of facts that are judged, the fields that newer code may have given
    them, and this version ignores.
    """

    facts: int = 0
    first: list[Newer] = []
    fields: list[str] = []


class ForeignCounts(Struct):
    """How many foreign messages (which no service published) this audit read.

    `known`: those that a person has acknowledged (see ops.foreign). `found`: the others, which are findings.
    """

    known: int = 0
    found: int = 0


class AuditReport(Struct, kw_only=True):
    """What an audit read, counted and found. `took_s` is in seconds.

    `verdict`: `findings`; without any, `newer-code` if facts of newer code were not judged; otherwise `good`.

    `since`: the cut of the checkpoint that this audit continued from; null: it began at the beginning. `at_rest`: the
    option, see Options.
    """

    verdict: str
    made_at: datetime
    took_s: float
    since: Cut | None
    cut: Cut
    at_rest: bool
    logs: dict[str, AuditedLog]
    stream: AuditedStream
    facts: dict[str, int]
    """Fact name → how many such facts this audit read in the logs, without those up to `since`."""
    orders: dict[str, int]
    """Status → number of orders, since the beginning. Status: CONFIRMED, PENDING, a cancel's reason, or `unknown`.

    `unknown`: there are facts about the order, but none that accepts it.
    """
    subjects: dict[str, int]
    """`products`, `accounts`, `coupons` and `orders` → how many there are, since the beginning."""
    answers: Answers
    foreign: ForeignCounts = msgspec.field(default_factory=ForeignCounts)
    newer_code: NewerCode = msgspec.field(default_factory=NewerCode)
    findings_by_rule: dict[int, int]
    findings: list[Finding]
    """Those of rule 0 come first, those of rule 11 last; the others are in the order in which they were made.

    If one of rules 1 to 11 has over a hundred, one more finding says how many are left out.
    """

    @property
    def good(self) -> bool:
        return not self.findings and not self.newer_code.facts


def audited(chain: HashChain) -> AuditedLog:
    return AuditedLog(chain.position, chain.records, chain.digest, chain.links)


def count(findings: list[Finding]) -> dict[int, int]:
    return dict(sorted(Counter(finding.invariant for finding in findings).items()))


def write(report: AuditReport, path: Path) -> None:
    """Write the report to this file as JSON, durably, in place of an earlier one. Make its folder if missing.

    Raises OSError.
    """
    files.make_folder(path.parent)
    files.write(path, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def read(path: Path) -> AuditReport:
    """Read the report of an earlier audit from its JSON file. Raises NotAReport if the file is missing or unusable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=AuditReport)
    except (OSError, *DECODE_ERRORS) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NotAReport(
            f"{path} cannot be used as the report of an earlier audit: {why}. Is it of another version? Move it away"
        ) from error
