"""What the systems on FastAPI share: the bodies of their requests and answers, how they refuse, and their server."""

import os
from datetime import datetime
from typing import Annotated, Final

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

KEEP_ALIVE_S: Final = 75  # of an idle client; with uvicorn's 5 s an open loop would lose connections

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Refused(Exception):
    """The order cannot be placed; the message is the reason."""


# Bodies ---------------------------------------------------------------------------------------------------------------


class Product(BaseModel):
    product_id: Id
    name: str
    price: int = Field(ge=1)
    stock: int = Field(ge=0)


class Charge(BaseModel):
    amount: int = Field(ge=1)


class Coupon(BaseModel):
    coupon_id: Id
    user_id: Id
    discount: int = Field(ge=1)
    expires_at: datetime


class Line(BaseModel):
    product_id: Id
    quantity: int = Field(ge=1, le=1_000)


class PlaceOrder(BaseModel):
    lines: list[Line] = Field(min_length=1, max_length=100)
    points: int = Field(ge=0, default=0)
    coupon_id: Id | None = None


class PlacedLine(Line):
    unit_price: int


class Placed(BaseModel):
    order_id: str
    status: str
    lines: list[PlacedLine]
    total: int
    points: int
    coupon_id: str | None
    discount: int
    amount_due: int
    placed_at: datetime


class ProductView(BaseModel):
    product_id: str
    name: str
    price: int
    available: int


class AccountView(BaseModel):
    user_id: str
    balance: int


class CouponView(BaseModel):
    coupon_id: str
    order_id: str | None


# HTTP -----------------------------------------------------------------------------------------------------------------


async def refused(_: Request, refusal: Refused) -> JSONResponse:
    """The answer to a refused order, for `FastAPI(exception_handlers={Refused: refused})`."""
    body = {"type": f"/problems/{refusal}", "title": str(refusal), "status": 409}
    return JSONResponse(body, 409, media_type="application/problem+json")


def serve(app: FastAPI) -> None:
    """Serve the app on loopback, at the environment's PORT, until SIGTERM."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
    )
