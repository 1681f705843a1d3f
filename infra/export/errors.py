"""The errors of an export:

    ExportError
    ├── SinkError         the sink cannot be used until an operator changes something
    ├── TokenError        the file of the bearer token cannot be used; a sink reports it as SinkError or Unavailable
    ├── Unavailable       the sink failed this time; a running export repeats a failed commit
    └── ExportStuck       the export cannot continue after some position
        ├── AnotherLog    the sink was not filled from this log
        └── Unexportable  a record of the log cannot be made a row
            └── NewerRecord

A log that cannot be read is a StoreError of `infra.store`.
"""


class ExportError(Exception):
    """The base of all errors of an export. The message names the cause."""


class SinkError(ExportError):
    """The sink cannot be used until an operator changes something; the message says why."""


class TokenError(ExportError):
    """The token's file cannot be read, or has no token that may be used.

    The message says why, and does not contain the token.
    """


class Unavailable(ExportError):
    """The sink failed this time to do what it was asked to do. It may have taken rows whose commit failed.

    A running export keeps the rows of a failed commit and offers them again.
    `lasting`: another attempt will probably fail, too, until an operator acts. `retry_after_s`: the wait in seconds
    that the sink asked for; 0 if it asked for none.
    """

    def __init__(self, reason: str, *, lasting: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.lasting = lasting
        self.retry_after_s = retry_after_s


class ExportStuck(ExportError):
    """The export cannot continue at or after the position that the message names, until an operator acts."""


class AnotherLog(ExportStuck):
    """The sink was not filled from this log: the log does not have the sink's last fact at the sink's position."""


class Unexportable(ExportStuck):
    """A record of the log cannot be made a row. A running export skips no record.

    It commits the rows before this record and ends; it can continue only when an operator has acted.
    """


class NewerRecord(Unexportable):
    """Newer code than this recorded the record: only that code knows its row, or whether it becomes one."""
