"""The messages of the choreography. Each has all that the services after it need."""

from typing import Final

from pydantic import BaseModel

from bench.systems.bodies import Line, PlacedLine

CREATED: Final = "order.created"
CONFIRMED: Final = "order.confirmed"
CANCELED: Final = "order.canceled"
RESERVED: Final = "product.reserved"
RELEASED: Final = "product.released"
USED: Final = "point.used"
REFUNDED: Final = "point.refunded"
COUPON_USED: Final = "coupon.used"
FAILED: Final = "failed.{}"
"""Of a service's step, with the service's name."""


class Created(BaseModel):
    order_id: str
    user_id: str
    lines: list[Line]
    points: int
    coupon_id: str | None


class Reserved(BaseModel):
    """The stock of all lines is taken, also when the points are used."""

    order_id: str
    user_id: str
    lines: list[PlacedLine]
    points: int
    coupon_id: str | None
    total: int


class Used(Reserved):
    """The coupon is used, and the order can be confirmed."""

    discount: int


class Failed(BaseModel):
    order_id: str
    reason: str


class Done(BaseModel):
    """Somebody's last word on an order."""

    order_id: str
