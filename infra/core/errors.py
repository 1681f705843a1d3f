"""The errors of the core.

NotNow                      the caller may repeat the request later
 ├ Busy
 └ StoreUnavailable
FoldError                   a bug: decide and evolve disagree
StoreError                  (in infra/store/errors.py)
 └ StreamUnreadable         one stream is damaged, or newer code wrote it
"""

from infra.store.errors import StoreError


class NotNow(Exception):
    """The request cannot be answered now. The caller may repeat it later; a repeat records nothing twice."""


class Busy(NotNow):
    """Too many requests and deliveries wait for the writer. Nothing was recorded; try again in a second."""


class StoreUnavailable(NotNow):
    """The store failed, a stream is unreadable, or the writer is suspended.

    If the store failed, the request's facts may be recorded all the same; a repeat records nothing twice.
    """


class FoldError(Exception):
    """A new fact cannot be folded into its stream's state, so it is not recorded: `decide` and `evolve` disagree."""


class StreamUnreadable(StoreError):
    """The records or the snapshot of `stream` cannot be decoded or folded. Other streams are not affected."""

    def __init__(self, stream: str, why: str) -> None:
        super().__init__(f"{stream}: {why}")
        self.stream = stream
