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
    """The request was not answered, and may be repeated later. A repeat is recognised."""


class Busy(NotNow):
    """Too many requests are waiting, and this one was not recorded. Try again in a second."""


class StoreUnavailable(NotNow):
    """The store fails, or writing is suspended. The request may have been recorded; its repeat is recognised."""


class FoldError(Exception):
    """A fact could not be folded into its stream's state: `decide` and `evolve` disagree."""


class StreamUnreadable(StoreError):
    """The records of this stream cannot be decoded or folded. Other streams are not affected."""

    def __init__(self, stream: str, why: str) -> None:
        super().__init__(f"{stream}: {why}")
        self.stream = stream
