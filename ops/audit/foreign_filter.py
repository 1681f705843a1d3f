"""Separates an audit's messages: those of services are checked, foreign ones are findings unless acknowledged.

Those of a service that this version does not have are counted as unjudged.
"""

from collections.abc import Collection, Mapping, Sequence

from contracts.origin import REPLAYED
from contracts.wire import SERVICES, said_by
from ops import foreign
from ops.audit.report import ForeignCounts
from ops.errors import Unusable
from ops.foreign import KnownForeign
from ops.invariants import Finding
from ops.invariants.findings import Findings
from ops.invariants.unjudged import Unjudged
from ops.reading import Read

FOREIGN: int = 11
"""The number of the rule that every message of the stream is a service's."""


class NoSuchMessage(Unusable):
    """A message that is to be acknowledged as foreign is not among those that the audit reads."""


class ForeignFilter:
    """Takes an audit's messages in their order. `reached`: service → the highest position of its log among them.

    A foreign message that nobody has acknowledged is a finding, which `finish` returns.
    """

    def __init__(self, env: Mapping[str, str], wanted: Collection[str]) -> None:
        """`wanted`: sequences of messages that a person acknowledges with this audit, or `all`.

        Raises NoForeignFile, SettingsError.
        """
        self._file = foreign.path(env)
        self._messages = KnownForeign.read(self._file, wanted)
        self._acknowledges = bool(wanted)
        self._findings = Findings()
        self.reached: dict[str, int] = {}

    def services(self, messages: Sequence[Read], unjudged: Unjudged) -> list[Read]:
        """Return those of the messages that a service published; the `fact_id` of each is its fact's id.

        Foreign messages are left out; so are those of a service that this version does not have: `unjudged` gets them.
        """
        return [its for message in messages if (its := self._judged(message, unjudged)) is not None]

    def _judged(self, message: Read, unjudged: Unjudged) -> Read | None:
        judged = self._messages.judge(message)
        if judged.origin is None:
            if not judged.known:
                self._findings.add(
                    FOREIGN,
                    f"stream, sequence {message.sequence}, {message.subject[:200]!a}",
                    f"{judged.why}: no service published it, and {_heard(message)}. Once you know where it comes "
                    f"from: just audit --foreign {message.sequence}",
                )
            return None
        service, its_id = said_by(message.subject), judged.origin.fact_id
        if service not in SERVICES:
            where = f"stream, sequence {message.sequence}, {its_id} ({message.subject[:200]!a})"
            unjudged.add(where, f"is of newer code: this version has no {service}_svc")
            return None
        self.reached[service] = max(judged.origin.position, self.reached.get(service, 0))
        return message if message.fact_id == its_id else message._replace(fact_id=its_id)

    def finish(self) -> list[Finding]:
        """Write the acknowledged messages into their file, if any were to be acknowledged, and return the findings.

        Raises NoSuchMessage, and writes nothing, if a message to be acknowledged was not taken; OSError.
        """
        if self._acknowledges:
            if self._messages.missing:
                raise NoSuchMessage(
                    f"--foreign {self._messages.missing[0]}: the stream has no such message after the last audit that "
                    "found nothing; --full reads the earlier ones, too"
                )
            self._messages.write(self._file)
        return self._findings.all()

    @property
    def counts(self) -> ForeignCounts:
        return ForeignCounts(self._messages.known, self._messages.unknown)


def _heard(message: Read) -> str:
    """Say in words what a service does with this foreign message if the service hears it."""
    if message.fact_id.startswith(REPLAYED):
        return "as a replay's copy services take it for the fact that it names: is that the one that the log has?"
    return "one that hears it dead-letters it; if rule 7 finds an answer to it, an older version gave that"
