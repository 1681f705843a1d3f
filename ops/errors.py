"""What the commands of `orders` raise, with the exit codes that `ops.cli.ending_well` makes of them:

    OpsError
    ├── Found           1: something that was asked about is wrong or missing
    ├── Unusable        2: an input of the command cannot be used
    │   ├── BadLine     a line that `orders replay` did not print
    │   ├── BadHistory  a file without a fact, or a line that is no message of EVENTS or contradicts an earlier one
    │   ├── NotAReport  a file that is not a report of an audit
    │   ├── NotABackup  a folder that is not a backup
    │   ├── NoSuchView  no service has a read model of this name
    │   ├── NoSuchMessage  a message to be acknowledged is not among those that the audit reads
    │   ├── NoForeignFile  the file of the acknowledged messages cannot be used
    │   ├── InUse       something works on the data
    │   └── HalfMoved   a restore was neither made nor undone
    ├── Unreachable     3: the broker, a service or a log does not answer
    │   ├── UnexpectedAnswer  a service has answered, and the command cannot use the answer
    │   └── TooLate     a service has not answered in time
    └── RecordedByNewerCode  4: newer code recorded a fact that the answer needs

The subclasses of Unusable are beside the functions that raise them. Settings that cannot be used are SettingsError (2),
stores that cannot be read StoreError (3).
"""


class OpsError(Exception):
    """The base of the errors that `orders` defines.

    A message names the cause and, if there is one, the next step. It is empty if the command has printed everything.
    """


class Found(OpsError):
    """A finding: something that the user asked about is wrong or missing. The process ends with exit code 1."""


class Unusable(OpsError):
    """An input of the command cannot be used. The process ends with exit code 2."""


class Unreachable(OpsError):
    """The broker, the archive, a service or a log cannot be used: often the system does not run. The exit code is 3."""


class TooLate(Unreachable):
    """A service has not answered in time. The exit code is 3."""


class RecordedByNewerCode(OpsError):
    """A fact that the answer needs was recorded by newer code. The process ends with exit code 4."""
