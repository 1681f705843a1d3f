"""Makes the message by which a record is published: its subject, its body, and its headers."""

from typing import Final

from contracts.wire import MSG_ID, POSITION, RESENT, STREAM, VERSION, fact_id, header_value, message_id, subject
from infra.broker.client import VERSION_LINE, Outgoing
from infra.store.records import Notification

_RESENT: Final = f"{RESENT}: true\r\n"


def message_of(stored: Notification, reply: str, begin: str = "", resent: bool = False) -> Outgoing:
    """Return the record's message, with this reply subject. `begin`: its generation's `numbering.prefix`.

    `resent`: whether the stream had lost the record's fact and has later facts of the service; a header says so.
    """
    position, stream, version, name, body = stored
    named = header_value(stream)
    raw_headers = (
        f"{VERSION_LINE}\r\n{MSG_ID}: {fact_id(named, version)}\r\n"
        f"{STREAM}: {named}\r\n{VERSION}: {version}\r\n{POSITION}: {position}\r\n"
        f"{_RESENT if resent else ''}\r\n"
    )
    return begin + subject(name, body, stream), body, reply, raw_headers


def subject_of(record: Notification) -> str:
    """Return the subject that the record's message has in the stream: without a `begin`."""
    return subject(record.topic, record.state, record.originator_id)


def id_of(record: Notification) -> str:
    """Return the `Nats-Msg-Id` with which a relay publishes the record."""
    return message_id(record.originator_id, record.originator_version)
