"""The last audit's verdict and age as gauges, for alerts; an audit is a command, and nobody scrapes it."""

from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog

from contracts.fact import DECODE_ERRORS, Timestamp
from infra.aio import wait
from infra.process.runtime import Runtime

logger = structlog.get_logger()

LOOK_EVERY_S: Final = 5.0
FOUND_NOTHING: Final = ("good", "newer-code")
"""The verdicts of an audit without findings; with the second one, it could not judge facts of newer code."""
PATH: Final = Path("audit") / "report.json"  # below DATA_DIR


class _NewerCode(msgspec.Struct):
    facts: int = 0


class _Report(msgspec.Struct):
    verdict: str
    made_at: Timestamp
    newer_code: _NewerCode = msgspec.field(default_factory=_NewerCode)


_decode: Final = msgspec.json.Decoder(_Report).decode


class AuditGauges:
    """Reads the report when the file has changed. One service does; without a report nothing is exported."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._path = runtime.settings.data_dir / PATH
        self._read_at = 0
        self._report: _Report | None = None
        runtime.tasks.append(self.run)
        runtime.metrics.gauges_by(
            "saga_audit_good",
            "1 if the last audit found nothing in what it could judge, 0 otherwise; missing without an audit.",
            (),
            lambda: {} if self._report is None else {(): float(self._report.verdict in FOUND_NOTHING)},
        )
        runtime.metrics.gauges_by(
            "saga_audit_unjudged_facts",
            "Facts of newer code, which the last audit did not judge; missing without an audit.",
            (),
            lambda: {} if self._report is None else {(): float(self._report.newer_code.facts)},
        )
        runtime.metrics.gauges_by(
            "saga_audit_age_seconds",
            "Seconds since the last audit; missing without one.",
            (),
            lambda: {} if self._report is None else {(): self._age_s(self._report.made_at)},
        )

    def _age_s(self, made_at: datetime) -> float:
        return max(0.0, (self._runtime.clock() - made_at).total_seconds())

    async def run(self) -> None:
        """Look every LOOK_EVERY_S seconds, until the process closes."""
        self._look()
        while not await wait(self._runtime.closing, LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._report, self._read_at = _decode(self._path.read_bytes()), changed_at
        except FileNotFoundError:
            self._report, self._read_at = None, 0
        except (OSError, *DECODE_ERRORS) as error:
            logger.debug("the report of the last audit cannot be read", path=str(self._path), error=str(error))
