"""Decides how long an export waits before it repeats a failed commit: shortly at first, then longer.

Many failures, or a lasting one, begin a pause; a single attempt follows each pause.
"""

from typing import Final

import structlog

from infra.aio import Backoff
from infra.export.errors import Unavailable

logger = structlog.get_logger()

FIRST_S: Final = 0.2
LONGEST_ASKED_S: Final = 3_600.0  # the longest Retry-After that is followed


class RetryPolicy:
    """Counts failures and says how long to wait; the caller waits and makes the attempts. All times are in seconds.

    Waits grow up to `longest_s`. After `most_failures` in a row, or a lasting one, a pause of `pause_s` begins. After a
    pause the caller makes one attempt (a probe); if it fails, the next pause begins. No row is dropped meanwhile: rows
    stay in hand, and the log keeps the later ones.

    `infra.aio.Backoff` gives the growing waits. The rest is this policy's own: a lasting failure pauses at once, the
    sink may ask for a longer wait (Retry-After), only a success ends the pauses.
    """

    def __init__(self, most_failures: int, longest_s: float, pause_s: float) -> None:
        self._most_failures = most_failures
        self._backoff = Backoff(min(FIRST_S, longest_s), longest_s)
        self._pause_s = pause_s
        self._failures = 0
        self.is_paused = False

    def failed(self, trouble: Unavailable) -> float:
        """Count and report a failure, which may begin a pause; return the seconds to wait before the next attempt."""
        self._failures += 1
        if trouble.lasting or self._failures >= self._most_failures or self.is_paused:
            wait_s = self._pause_s
            self.is_paused = True
        else:
            wait_s = self._backoff.next_s()
        wait_s = max(wait_s, min(trouble.retry_after_s, LONGEST_ASKED_S))
        self._log(trouble, round(wait_s, 3))
        return wait_s

    def _log(self, trouble: Unavailable, wait_s: float) -> None:
        if trouble.lasting:
            logger.error(
                "export paused: repeating this will not help; correct what `reason` names. No row is dropped",
                reason=str(trouble),
                next_attempt_in_s=wait_s,
            )
        elif self.is_paused:
            logger.warning("export paused", reason=str(trouble), failures=self._failures, next_attempt_in_s=wait_s)
        else:
            logger.warning("rows not taken; trying again", reason=str(trouble), next_attempt_in_s=wait_s)

    def succeeded(self) -> None:
        """End the pause and forget the failures; call it after every commit that succeeded."""
        if self._failures:
            logger.info("the sink takes rows again", failures=self._failures)
            self._backoff.reset()
        self._failures = 0
        self.is_paused = False
