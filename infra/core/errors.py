"""The errors of the core.

NotNow                      the caller may repeat the request later
 ├ Busy
 └ StoreUnavailable
    └ StreamUnavailable     the stream that the request needs is unreadable; others are not affected
FoldError                   a bug: decide and evolve disagree
Unpublishable               a decision's fact could not be published or heard, so it is not recorded
 └ TooLarge
StoreError                  (in infra/store/errors.py)
 └ StreamUnreadable         one stream is damaged, or newer code wrote it
"""

from infra.store.errors import StoreError


class NotNow(Exception):
    """The request cannot be answered now. The caller may repeat it later; the same command records nothing twice."""


class Busy(NotNow):
    """Too many requests and deliveries wait for the writer. Nothing was recorded; try again in a second."""


class StoreUnavailable(NotNow):
    """The store or a read model's file failed, a stream is unreadable, or the writer is suspended.

    If the store failed, the request's facts may be recorded all the same; the same command records nothing twice.
    """


class StreamUnavailable(StoreUnavailable):
    """A stream that the request needs is unreadable, so nothing was recorded.

    `newer`: the stream is unreadable because newer code recorded one of its facts; otherwise it is damaged.
    """

    def __init__(self, error: "StreamUnreadable") -> None:
        super().__init__(str(error))
        self.newer = error.newer


class FoldError(Exception):
    """A new fact cannot be folded into its stream's state, so it is not recorded: `decide` and `evolve` disagree."""


class Unpublishable(Exception):
    """A new fact could not be published or heard, so its command records nothing. The message says why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} cannot be recorded, because it could not be published: {why}")


class TooLarge(Unpublishable):
    """The fact is larger than a message that the broker takes, or a fact that follows from it may be."""


class StreamUnreadable(StoreError):
    """The records or the snapshot of `stream` cannot be decoded or folded. Other streams are not affected.

    `newer`: the cause is that newer code recorded one of the stream's facts; otherwise the stream is damaged.
    """

    def __init__(self, stream: str, why: str, *, newer: bool = False) -> None:
        super().__init__(f"{stream}: {why}")
        self.stream = stream
        self.newer = newer
