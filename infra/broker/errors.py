"""The errors of the broker's side of a process.

BrokerError
 ├ SessionEnded             the next session starts over; nothing is lost
 │  ├ ConnectionLost
 │  ├ RelayFailed
 │  └ ConsumerFailed
 │     └ ConsumerGone
 ├ StreamMisconfigured      an operator has to change the stream
 ├ LogLost                  an operator has to restore the store
 └ HistoryUnavailable       the caller may ask again
"""


class BrokerError(Exception):
    """The base class of these errors."""


class SessionEnded(BrokerError):
    """A session with the broker is over. The next one begins with a fresh connection."""


class ConnectionLost(SessionEnded):
    """The connection to the broker is gone."""


class RelayFailed(SessionEnded):
    """The broker refused a fact or stopped answering. The next session asks the stream where to continue."""


class ConsumerFailed(SessionEnded):
    """Deliveries stopped, a delivery was skipped, or another session took over the consumer.

    The next session resets the consumer and receives the unacknowledged messages again.
    """


class ConsumerGone(ConsumerFailed):
    """The broker has no such consumer (any more)."""


class StreamMisconfigured(BrokerError):
    """A stream lacks settings that the guarantees need, and cannot be given them. The message lists them."""


class LogLost(BrokerError):
    """The store is older than its service's published facts. The service must not publish until a rebuild."""


class HistoryUnavailable(BrokerError):
    """The broker did not answer a look-up in the stream in time."""
