"""When to try again: soon at first, then later and later; after enough failures a pause, then one probe."""

import random

import structlog

from infra.export.sink import Unavailable

logger = structlog.get_logger()

FIRST_S = 0.2
LONGEST_ASKED_S = 3_600.0  # of what a sink may ask for by Retry-After


class RetryPolicy:
    """Closed while things work; open (a pause) after `most_failures` in a row, or one that is lasting.

    Nothing is dropped meanwhile: rows stay in hand, and the log keeps what is behind them.
    """

    def __init__(self, most_failures: int, longest_s: float, pause_s: float) -> None:
        self._most_failures = most_failures
        self._longest_s = longest_s
        self._pause_s = pause_s
        self._failures = 0
        self.is_open = False

    def failed(self, trouble: Unavailable) -> float:
        """How long to wait, in seconds."""
        self._failures += 1
        if trouble.lasting or self._failures >= self._most_failures or self.is_open:
            wait_s = self._pause_s
            self.is_open = True
        else:
            # Between half and all of it, so that many who failed together do not come back together.
            wait_s = min(self._longest_s, FIRST_S * 2 ** (self._failures - 1)) * random.uniform(0.5, 1.0)
        wait_s = max(wait_s, min(trouble.retry_after_s, LONGEST_ASKED_S))
        if trouble.lasting:
            logger.error(
                "export paused: repeating this will not help, somebody has to look; no row is dropped",
                reason=str(trouble),
                next_attempt_in_s=round(wait_s, 3),
            )
        elif self.is_open:
            logger.warning(
                "export paused", reason=str(trouble), failures=self._failures, next_attempt_in_s=round(wait_s, 3)
            )
        else:
            logger.warning("rows not taken; trying again", reason=str(trouble), next_attempt_in_s=round(wait_s, 3))
        return wait_s

    def succeeded(self) -> None:
        if self._failures:
            logger.info("the sink takes rows again", failures=self._failures)
        self._failures = 0
        self.is_open = False
