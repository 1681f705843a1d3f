"""order_svc's own settings."""

from typing import Annotated

from msgspec import Meta

from infra.settings import Seconds, Settings


class OrderSettings(Settings, frozen=True, kw_only=True):
    order_wait_s: Seconds = 5.0
    """How long `POST /orders` waits for the order's end before it answers 202."""
    order_deadline_s: Seconds = 30.0
    """How long an order may take before it is canceled."""
    orders_under_way: Annotated[int, Meta(ge=1, le=1_000_000)] = 4_096
    """So many orders may be accepted and not ended at a time; new ones are turned away meanwhile."""
