"""The errors of an export:

    ExportError
    ├── SinkError         the sink cannot be used until an operator changes something
    ├── TokenError        the file of the bearer token cannot be used; a sink reports it as SinkError or Unavailable
    ├── Unavailable       the sink did not take the rows this time; the export tries again
    └── ExportStuck       the export cannot continue behind this position
        ├── AnotherLog    the sink was not filled from this log
        └── Unexportable  a record of the log cannot be made a row

A log that cannot be read is a StoreError of `infra.store`.
"""


class ExportError(Exception):
    """Any error of an export. The message names the cause and what to do."""


class SinkError(ExportError):
    """The sink cannot be used as it is; the message says what an operator has to do."""


class TokenError(ExportError):
    """The file has no token that may be used. The message says why and never contains the file's content."""


class Unavailable(ExportError):
    """The sink did not take the rows this time. The export still has them in hand and offers them again.

    `lasting`: another attempt fails too until an operator acts. `retry_after_s`: the wait the sink asked for, in
    seconds.
    """

    def __init__(self, reason: str, *, lasting: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.lasting = lasting
        self.retry_after_s = retry_after_s


class ExportStuck(ExportError):
    """The export cannot continue. Everything before this position is exported, nothing behind it."""


class AnotherLog(ExportStuck):
    """The sink was not filled from this log."""


class Unexportable(ExportStuck):
    """A record cannot be made a row. The export skips nothing: it ends here until an operator acts."""
