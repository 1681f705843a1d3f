"""The last audit's verdict and age as gauges, for alerts; an audit is a command, and nobody scrapes it.

Without a report of an audit, `/readyz` warns from DUE_AFTER (25 h) after the first fact of this service's log.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import structlog

from contracts.fact import DECODE_ERRORS, Timestamp, time_of
from infra.aio import wait
from infra.process.runtime import Runtime
from infra.store.errors import StoreError

logger = structlog.get_logger()

LOOK_EVERY_S: Final = 5.0
FOUND_NOTHING: Final = ("good", "newer-code")
"""The verdicts of an audit without findings; with the second one, it could not judge facts of newer code."""
DUE_AFTER: Final = timedelta(hours=25)
"""From so long after its first fact on, a system should have been audited: once a day, and an hour for the audit."""
PATH: Final = Path("audit") / "report.json"  # below DATA_DIR


class _NewerCode(msgspec.Struct):
    facts: int = 0


class _Report(msgspec.Struct):
    verdict: str
    made_at: Timestamp
    newer_code: _NewerCode = msgspec.field(default_factory=_NewerCode)


_decode: Final = msgspec.json.Decoder(_Report).decode


class AuditGauges:
    """Reads the report when its file has changed, and exports it; without a report nothing is exported.

    One service of the system makes one, which also adds its warnings and its task `run` to `runtime`. While a report
    cannot be read, the one that was read before is exported. If its file is removed, there is no report.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._path = runtime.settings.data_dir / PATH
        self._read_at = 0
        self._report: _Report | None = None
        self._began_at: datetime | None = None
        """When the log's first fact was said; None: it is not known yet."""
        runtime.warnings.append(self.warnings)
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

    def warnings(self) -> Sequence[str]:
        """Return the warning that the system was never audited, if no report was read; none before an audit is due."""
        began_at = self._began_at
        if self._report is not None or began_at is None or self._runtime.clock() - began_at < DUE_AFTER:
            return []
        return [
            f"this system was never audited, and has facts since {began_at:%Y-%m-%d %H:%M} UTC: audit it once a day "
            "(just audit)"
        ]

    async def run(self) -> None:
        """Look every LOOK_EVERY_S seconds, until the process closes."""
        await self.look()
        while not await wait(self._runtime.closing, LOOK_EVERY_S):
            await self.look()

    async def look(self) -> None:
        """Read the report if it has changed; without any, also the time of the log's first fact, until it is known."""
        self._look()
        if self._report is not None or self._began_at is not None:
            return
        try:
            for record in await self._runtime.store.select_notifications(0, 1):
                self._began_at = time_of(record.state)
        except (StoreError, *DECODE_ERRORS) as error:
            logger.debug("the time of the first fact cannot be read", error=str(error))

    def _look(self) -> None:
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._report, self._read_at = _decode(self._path.read_bytes()), changed_at
        except FileNotFoundError:
            self._report, self._read_at = None, 0
        except (OSError, *DECODE_ERRORS) as error:
            logger.debug("the report of the last audit cannot be read", path=str(self._path), error=str(error))
