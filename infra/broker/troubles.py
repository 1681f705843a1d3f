"""Says in words what is wrong with the broker, and what to do about it."""

import re
import socket
import ssl
from collections.abc import Sequence
from typing import Final

from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from infra.broker.errors import BrokerError, BrokerMisconfigured, ConnectionLost
from infra.broker_url import BrokerUrl

NO_JETSTREAM: Final = (
    "JetStream is off: start nats-server with -js, or with jetstream {} in its configuration, and enable it for the "
    "account"
)
TOO_LITTLE: Final = "lower EVENTS_MAX_BYTES, or raise jetstream.max_file_store or the account's limits at the broker"

UNACKNOWLEDGED: Final = (
    "The broker's log says why; if its disk was full, make room and restart the broker: it writes to the stream again "
    "only after that"
)
"""What an operator has to do if the broker acknowledges nothing."""

NEXT_STEPS: Final = {
    10_002: f"the account's limit of JetStream is reached: {TOO_LITTLE}",
    10_023: f"the broker has too little room: {TOO_LITTLE}",
    10_026: "the account may have no more consumers: raise its max_consumers at the broker",
    10_027: "the account may have no more streams: raise its max_streams at the broker",
    10_028: f"the broker has too little memory: {TOO_LITTLE}",
    10_039: NO_JETSTREAM,
    10_047: f"the broker has too little room: {TOO_LITTLE}",
    10_077: (
        "the stream is full: raise the limit of its newest generation (`just stream ls`), such as "
        "`nats stream edit EVENTS --max-bytes=16GB`; DEAD has room again once dead letters are redriven or dropped"
    ),
    10_074: "this broker has too few servers: lower EVENTS_REPLICAS, or add servers",
    10_005: "this broker has too few servers with room: lower EVENTS_REPLICAS, or add servers",
    10_076: NO_JETSTREAM,
    10_122: f"the account allows no stream of this size: {TOO_LITTLE}",
}
"""By the error code of JetStream's API: what an operator has to do."""

_DENIED: Final = re.compile(r"(?i)permissions violation for (publish|subscription) to \"(.*?)\"")


def denied_subject(error: Exception) -> str | None:
    """Return what the broker denied by this error, such as `publish to $JS.ACK.…`; None if it is no denial."""
    found = _DENIED.search(str(error))
    return None if found is None else f"{found[1].lower().replace('subscription', 'subscribe')} to {found[2]}"


def is_needed(denied: str) -> bool:
    """Whether a session cannot do without what was denied. Of the API's requests, only the pull request counts."""
    return not denied.startswith("publish to $JS.API.") or denied.startswith("publish to $JS.API.CONSUMER.MSG.NEXT.")


def denied(subjects: Sequence[str]) -> BrokerMisconfigured:
    """Return the error for a session that was denied what it needs; it names the first five.

    `subjects` are as `denied_subject` returns them, such as `publish to $JS.ACK.…`.
    """
    return BrokerMisconfigured(
        f"the broker denies its user what is needed: {'; '.join(subjects[:5])}. Grant it in the broker's permissions "
        "of the user in NATS_URL (docs/operating.md lists them)"
    )


def next_step(code: int | None) -> str:
    """Return what an operator has to do after this error of JetStream, to be appended to its text; empty if unknown."""
    return f". {NEXT_STEPS[code]}" if code in NEXT_STEPS else ""


def describe(error: Exception) -> str:
    """Return the error's text for logs, `/readyz` and HTTP problems: the cause, and the next step if it is known.

    A TimeoutError's is that the broker did not answer in time; that of an error without a text is its type's name.
    """
    if isinstance(error, ServiceUnavailableError | NoStreamResponseError) and getattr(error, "err_code", None) is None:
        return f"nobody answers for JetStream at the broker. {NO_JETSTREAM}"
    if isinstance(error, APIError):
        return f"{error.description} (JetStream's error {error.err_code}){next_step(error.err_code)}"
    if isinstance(error, TimeoutError):
        return "the broker did not answer in time"
    return str(error) or type(error).__name__


def misconfigured(error: Exception) -> BrokerMisconfigured | None:
    """Return the error that names the operator's next step; None if the step is unknown.

    It is known for JetStream's errors in NEXT_STEPS, and for a request or message that nobody in JetStream answers.
    """
    if not isinstance(error, APIError | NoStreamResponseError):
        return None
    code = getattr(error, "err_code", None)
    return BrokerMisconfigured(describe(error)) if code is None or code in NEXT_STEPS else None


def not_connected(failed: Sequence[tuple[BrokerUrl, Exception]], timeout_s: float) -> BrokerError:
    """Return the error for a broker whose servers, each for its reason, did not take the connection.

    BrokerMisconfigured if only an operator can remove each of the reasons; else ConnectionLost.
    """
    told = "; ".join(f"{server.at}: {_why(error, server, timeout_s)}" for server, error in failed)
    if all(_needs_operator(error) for _, error in failed):
        return BrokerMisconfigured(f"the broker takes no connection: {told}")
    return ConnectionLost(f"the broker cannot be reached: {told}")


def _needs_operator(error: Exception) -> bool:
    return isinstance(error, BrokerMisconfigured | ssl.SSLError | socket.gaierror) or "authoriz" in str(error).lower()


def _why(error: Exception, server: BrokerUrl, timeout_s: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not accepted ({error.verify_message}); if an authority of your own has signed it, "
            "SSL_CERT_FILE names that one's file"
        )
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved ({error.strerror}); check NATS_URL"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; is the broker running?"
    if isinstance(error, TimeoutError):
        hint = "" if server.tls else ". Or it wants TLS first: that needs tls:// in NATS_URL"
        hangs = "it hangs, or is stopped: see its log, and restart it"
        return f"it takes the connection, but says nothing within {timeout_s:g} s: {hangs}{hint}"
    if "authorization violation" in str(error).lower():
        return "it refuses the user and password in NATS_URL, or wants some"
    return describe(error)
