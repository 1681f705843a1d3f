"""order_svc's own settings."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from msgspec import Meta

from infra.settings import Seconds, Settings


class OrderSettings(Settings, frozen=True, kw_only=True):
    renamed: ClassVar[Mapping[str, str]] = {"ORDERS_UNDER_WAY": "ORDERS_IN_FLIGHT"}

    order_wait_s: Seconds = 5.0
    """How many seconds `POST /orders` waits for the order's end before it answers 202."""
    order_deadline_s: Seconds = 30.0
    """The seconds after which an order that has not ended is canceled."""
    orders_in_flight: Annotated[int, Meta(ge=1, le=1_000_000)] = 4_096
    """Maximum of in-flight orders; at this number, new orders get 503. Orders from before the start do not count."""
