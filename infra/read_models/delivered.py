"""Reads the facts out of delivered messages, in the form in which projections take them from a log."""

from collections.abc import Sequence

import structlog

from contracts.origin import ForeignMessage, origin
from infra.core.messages import Delivery
from infra.store.records import Notification

logger = structlog.get_logger()


def facts_in(messages: Sequence[Delivery]) -> list[Notification]:
    """Return the messages' facts as records; a record's `position` is the message's sequence in its generation.

    Foreign messages are logged and left out.
    """
    records, foreign = [], []
    for delivery in messages:
        sequence, subject = delivery.position.sequence, delivery.subject
        try:
            stream, version, _ = origin(subject, delivery.fact_id, delivery.raw_headers, delivery.body)
        except ForeignMessage as why:
            foreign.append(f"{sequence} ({subject}) {why}")
        else:
            records.append(Notification(sequence, stream, version, subject.rpartition(".")[0], delivery.body))
    if foreign:
        logger.warning("foreign messages are passed over", messages=len(foreign), first=foreign[0])
    return records
