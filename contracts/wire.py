"""How a fact travels: one line of JSON under `<fact>.<key>`, with four headers derived from the record.

The stored state is the message body, byte for byte, so neither copy of history has to be translated into the other.
"""

from typing import Final, get_args

import msgspec

from contracts.coupon import CouponRestored, CouponSays
from contracts.fact import Fact
from contracts.order import OrderSays
from contracts.point import PointRefunded, PointSays
from contracts.product import ProductReleased, ProductSays, ProductStockReturned

MSG_ID: Final = "Nats-Msg-Id"
"""The fact id. JetStream refuses a second message with the same one inside its duplicate window."""
STREAM: Final = "Fact-Stream"
VERSION: Final = "Fact-Version"
POSITION: Final = "Fact-Position"
"""Position in the log of the service that said it: where its relay continues after a crash."""

AnyFact = OrderSays | ProductSays | PointSays | CouponSays
"""Every fact there is. A new service adds its own union here."""

FACTS: Final[dict[str, type[Fact]]] = {str(fact.__struct_config__.tag): fact for fact in get_args(AnyFact)}
"""Fact name → type."""

NAMES: Final[dict[type[Fact], str]] = {fact: name for name, fact in FACTS.items()}
"""Type → fact name: NATS subject, JSON `type` and stored topic."""

COMPENSATIONS: Final = frozenset(
    NAMES[fact] for fact in (ProductStockReturned, ProductReleased, PointRefunded, CouponRestored)
)
"""Names of the facts that take back what was done."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(AnyFact)


class _Keys(msgspec.Struct, frozen=True):
    """Just the ids of a body: decoding these alone costs a fraction of decoding the fact."""

    order_id: str = ""
    product_id: str = ""
    user_id: str = ""
    coupon_id: str | None = None


_keys = msgspec.json.Decoder(_Keys)


def encode(fact: Fact) -> bytes:
    """The body of a fact: UTF-8 JSON on one line."""
    return _encoder.encode(fact)


def decode(body: bytes) -> Fact:
    """The fact in a body.

    Unknown fields are ignored: they come from newer code. Raises msgspec.DecodeError for what is not JSON, and its
    subclass msgspec.ValidationError for an unknown `type` or a field that breaks the contract.
    """
    return _decoder.decode(body)


def fact_id(stream: str, version: int) -> str:
    """The id of the fact at this version (from 1) of this stream."""
    return f"{stream}@{version}"


def said_by(name: str) -> str:
    """The service that says the fact of this name."""
    return name.partition(".")[0]


def subject(name: str, body: bytes) -> str:
    """The subject a stored fact is published under: `<fact>.<key>`."""
    return f"{name}.{getattr(_keys.decode(body), FACTS[name].key_field)}"
