"""The errors of the broker's side of a process.

BrokerError
 ├ SessionEnded             the next session starts over; nothing is lost
 │  ├ ConnectionLost
 │  ├ LeaderUnavailable
 │  ├ RelayFailed
 │  └ ConsumerFailed
 │     └ ConsumerGone
 ├ BrokerMisconfigured      an operator has to change the broker, its user's permissions, or a setting
 │  ├ StreamMisconfigured   an operator has to change a stream, or update the server
 │  └ ArchiveUnusable       an operator has to bring the archive back
 ├ FactTooLarge             an operator has to allow larger messages
 ├ LogLost                  an operator has to restore the store, or acknowledge a forgery
 └ HistoryUnavailable       the caller may ask again
"""

from infra.store.records import Notification


class BrokerError(Exception):
    """The base class of this module's errors."""


class SessionEnded(BrokerError):
    """A session with the broker is over. The next one begins with a fresh connection."""


class ConnectionLost(SessionEnded):
    """The connection is lost, was not made, or is of no use.

    Not made: no server takes it, at least one for a reason that may pass, or the process stops before. Of no use:
    meanwhile DEAD or a generation was replaced, a sealed one is gone that no archive has, or an older one is there that
    was not.
    """


class RelayFailed(SessionEnded):
    """The broker refused a fact, took it for a repeat of another message, or did not acknowledge facts in time.

    The next session asks the stream where to continue.
    """


class ConsumerFailed(SessionEnded):
    """The broker sent nothing for too long, ended the pull or refused a dead letter, or the consumer cannot go on.

    It cannot if a delivery was skipped, an acknowledgement jams it, another session took it over, or it was reset after
    it had heard all. The next session receives the unacknowledged messages again.
    """


class ConsumerGone(ConsumerFailed):
    """The consumer was deleted, or no server answers for it."""


class BrokerMisconfigured(BrokerError):
    """The broker's configuration (such as TLS, limits, permissions), NATS_URL or an unusable archive prevents the work.

    The message says what, and what to do. Usually no session can begin, or go on, before an operator has acted.
    """


class StreamMisconfigured(BrokerMisconfigured):
    """A stream has settings that the guarantees exclude, or the server is too old for EVENTS. The message says which.

    An operator has to act; no session can begin before.
    """


class ArchiveUnusable(BrokerMisconfigured):
    """The archive cannot be read, or is not the one that the streams know. The message says where it is, and why.

    Without it services would publish again what is archived.
    """


class LeaderUnavailable(SessionEnded):
    """The leader of a generation did not answer in time. The message names the permission that may be missing."""


class FactTooLarge(BrokerError):
    """The log has a fact that does not fit into the largest message that the broker takes. The message says which.

    Nothing after it can be published before an operator allows larger messages.
    """

    def __init__(self, service: str, stored: Notification, most: int, stream: str) -> None:
        super().__init__(
            f"{stored.originator_id}@{stored.originator_version} at position {stored.position} of {service}_svc's log "
            f"has {len(stored.state):,} bytes and the broker takes {most:,}, so neither it nor what follows it can be "
            f"published. Allow larger messages: nats stream edit {stream} --max-msg-size=1048576, and max_payload in "
            "the broker's configuration"
        )


class LogLost(BrokerError):
    """The stream or its archive has a fact of this service that its log lacks.

    The store or the archive is another system's, or the store lost its newest records; or somebody forged the fact. The
    service must not publish until an operator puts the right one back, rebuilds the store, or acknowledges the forgery.
    """


class HistoryUnavailable(BrokerError):
    """A look-up in the stream or the archive failed. The caller may repeat it.

    There was no connection, no whole answer in time, a refusal, only a mirror's answer, a fact of newer code, or a
    damaged archive.
    """
