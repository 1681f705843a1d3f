"""What the core tells a caller whose command was not recorded."""


class Busy(Exception):
    """Too many requests are waiting; nothing was recorded. Try again in a second."""


class StoreUnavailable(Exception):
    """The store fails, or may not be written to. What failed may have been recorded; its repeat is recognised."""
