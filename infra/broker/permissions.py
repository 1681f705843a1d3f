"""Checks that the broker takes a session's acknowledgements, pull requests, facts and dead letters.

The broker does not answer a message that it denies. It only sends an error, which belongs to no request.
"""

from collections.abc import Collection, Iterable
from typing import Final

from contracts.wire import FACTS, said_by
from infra.broker.client import VERSION_LINE, BrokerClient, Outgoing
from infra.broker.consumers import ConsumerPlace
from infra.broker.errors import BrokerMisconfigured
from infra.broker.streams import MAX_FACT_BYTES

LEAST_PAYLOAD: Final = 2 * MAX_FACT_BYTES
"""The broker's `max_payload` must be at least this: a fact, or its dead letter, with its headers."""

PROBE: Final = "0"
"""The last token of a probe's subject."""

_NO_HEADERS: Final = f"{VERSION_LINE}\r\n\r\n"
_NOT_STORED: Final = f"{VERSION_LINE}\r\nNats-Expected-Stream: none\r\n\r\n"
"""Headers with which no stream stores a message."""


def facts_said_by(service: str) -> list[str]:
    return [name for name in FACTS if said_by(name) == service]


def check_payload(nc: BrokerClient) -> None:
    """Raise BrokerMisconfigured if the broker takes no message of LEAST_PAYLOAD bytes."""
    if nc.max_payload < LEAST_PAYLOAD:
        raise BrokerMisconfigured(
            f"the broker's max_payload is {nc.max_payload} bytes, and messages have up to {LEAST_PAYLOAD}: raise "
            "max_payload in the broker's configuration (its default is 1MB)"
        )


async def publish_probes(
    nc: BrokerClient, listener: str, consumers: Collection[ConsumerPlace], facts: Iterable[str] | None
) -> None:
    """Publish probes: of acknowledging and pulling for each consumer, of the listener's dead letters, of these facts.

    Nothing is stored. A denial goes to the client's `error_cb`, before the caller's next request is answered.
    `facts`: their subjects, without the key at the end; None: no probe of facts and dead letters, since everybody who
    subscribes to these gets such a probe. The probe of acknowledging names no delivery, so it acknowledges none; the
    one of pulling has no inbox, so nothing is delivered. Raises the client's errors.
    """
    stored = () if facts is None else (*facts, f"dead.{listener}")
    probes: list[Outgoing] = [
        *((f"$JS.ACK.{one.stream}.{one.name}.1.0.0.0.0", b"+WPI", "", _NO_HEADERS) for one in consumers),
        *((f"$JS.API.CONSUMER.MSG.NEXT.{one.stream}.{one.name}", b"", "", _NO_HEADERS) for one in consumers),
        *((f"{name}.{PROBE}", b"", "", _NOT_STORED) for name in stored),
    ]
    await nc.send_all(probes)
