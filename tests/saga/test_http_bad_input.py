"""What a client may get wrong: refused as problem+json that names the field, and nothing is recorded."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import pytest

from tests.saga.asking import ANN, KEY, problem, records, send
from tests.shop import JSON, Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Bad(NamedTuple):
    """A request that cannot be meant, and the field it gets wrong."""

    service: str
    path: str
    body: bytes
    field: str
    headers: dict[str, str] = ANN | KEY


def line(**fields: object) -> dict[str, object]:
    return {"product_id": "mug", "quantity": 1, **fields}


def order(*lines: object, **fields: object) -> bytes:
    return msgspec.json.encode({"lines": lines or [line()], **fields})


def placing(body: bytes, field: str) -> Bad:
    return Bad("order", "/orders", body, field)


ORDERS = {
    "no body": placing(b"", "body"),
    "a list": placing(b"[]", "body"),
    "null": placing(b"null", "body"),
    "text": placing(b'"order"', "body"),
    "deeply nested": placing(b"[" * 5_000 + b"]" * 5_000, "body"),
    "deeply nested lines": placing(b'{"lines":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "lines[0]"),
    "deeply nested in an unknown field": placing(b'{"a":' * 2_500 + b"1" + b"}" * 2_500, "a"),
    "an unknown field": placing(order(color="red"), "color"),
    "an unknown field in a line": placing(order(line(), line(color="red")), "lines[1].color"),
    "no lines": placing(b"{}", "lines"),
    "an empty list of lines": placing(b'{"lines":[]}', "lines"),
    "lines that are no list": placing(b'{"lines":{"mug":1}}', "lines"),
    "more than 100 lines": placing(order(*(line(product_id=f"p{n}") for n in range(101))), "lines"),
    "duplicate product lines": placing(order(line(), line(product_id="lamp"), line()), "lines"),
    "no product": placing(b'{"lines":[{"quantity":1}]}', "lines[0].product_id"),
    "no quantity": placing(b'{"lines":[{"product_id":"mug"}]}', "lines[0].quantity"),
    "quantity zero": placing(order(line(quantity=0)), "lines[0].quantity"),
    "a negative quantity": placing(order(line(), line(product_id="lamp", quantity=-1)), "lines[1].quantity"),
    "a quantity over 1,000": placing(order(line(quantity=1_001)), "lines[0].quantity"),
    "an overflowing quantity": placing(
        b'{"lines":[{"product_id":"mug","quantity":1' + b"0" * 40 + b"}]}", "lines[0].quantity"
    ),
    "a quantity beyond floats": placing(b'{"lines":[{"product_id":"mug","quantity":1e999}]}', "lines[0].quantity"),
    "half a piece": placing(order(line(quantity=1.5)), "lines[0].quantity"),
    "a quantity in quotes": placing(order(line(quantity="1")), "lines[0].quantity"),
    "a quantity that is true": placing(order(line(quantity=True)), "lines[0].quantity"),
    "an id with a dot": placing(order(line(product_id="mug.red")), "lines[0].product_id"),
    "an id with a wildcard": placing(order(line(product_id="*")), "lines[0].product_id"),
    "an id with a space": placing(order(line(product_id="my mug")), "lines[0].product_id"),
    "an id in Korean": placing(order(line(product_id="머그컵")), "lines[0].product_id"),
    "an id with a trailing newline": placing(order(line(product_id="mug\n")), "lines[0].product_id"),
    "an empty id": placing(order(line(product_id="")), "lines[0].product_id"),
    "an id of 65 letters": placing(order(line(product_id="m" * 65)), "lines[0].product_id"),
    "an id that is a number": placing(order(line(product_id=7)), "lines[0].product_id"),
    "negative points": placing(order(points=-1), "points"),
    "points over 10^12": placing(order(points=10**12 + 1), "points"),
    "overflowing points": placing(b'{"lines":[],"points":1' + b"0" * 400 + b"}", "lines"),
    "points in quotes": placing(order(points="500"), "points"),
    "points that are null": placing(order(points=None), "points"),
    "a bad coupon id": placing(order(coupon_id="c 1"), "coupon_id"),
    "a coupon id with a trailing newline": placing(order(coupon_id="c1\n"), "coupon_id"),
    "an empty coupon id": placing(order(coupon_id=""), "coupon_id"),
    "a coupon that is a number": placing(order(coupon_id=1), "coupon_id"),
}


def product(**fields: object) -> bytes:
    return msgspec.json.encode({"product_id": "p1", "name": "Mug", "price": 1_000, "stock": 1, **fields})


def registering(body: bytes, field: str) -> Bad:
    return Bad("product", "/products", body, field)


def coupon(**fields: object) -> bytes:
    return msgspec.json.encode(
        {"coupon_id": "c1", "user_id": "ann", "discount": 1, "expires_at": "2099-01-01T00:00:00Z", **fields}
    )


def issuing(body: bytes, field: str) -> Bad:
    return Bad("coupon", "/coupons", body, field)


def charging(body: bytes, field: str) -> Bad:
    return Bad("point", "/points/ann/charge", body, field)


def stocking(body: bytes, field: str) -> Bad:
    return Bad("product", "/products/mug/stock", body, field)


OTHERS = {
    "a product with a bad id": registering(product(product_id="a.b"), "product_id"),
    "a product with a reserved id": registering(product(product_id="popular"), "product_id"),
    "a product without a name": registering(product(name=""), "name"),
    "a product with too long a name": registering(product(name="m" * 201), "name"),
    "a product that is free": registering(product(price=0), "price"),
    "a product over 10^9": registering(product(price=10**9 + 1), "price"),
    "a product with negative stock": registering(product(stock=-1), "stock"),
    "a product with stock over 10^12": registering(product(stock=10**12 + 1), "stock"),
    "a product of an unknown field": registering(product(color="red"), "color"),
    "a product without a price": registering(b'{"product_id":"p1","name":"Mug","stock":1}', "price"),
    "no stock to add": stocking(b'{"quantity":0}', "quantity"),
    "stock over 10^12 to add": stocking(b'{"quantity":1000000000001}', "quantity"),
    "stock in quotes": stocking(b'{"quantity":"1"}', "quantity"),
    "stock for a bad id": Bad("product", "/products/a.b/stock", b'{"quantity":1}', "product_id"),
    "a charge of nothing": charging(b'{"amount":0}', "amount"),
    "a negative charge": charging(b'{"amount":-5}', "amount"),
    "a charge over 10^12": charging(b'{"amount":1000000000001}', "amount"),
    "an overflowing charge": charging(b'{"amount":1' + b"0" * 50 + b"}", "amount"),
    "a charge of something else": charging(b'{"amount":1,"currency":"won"}', "currency"),
    "a charge for a bad id": Bad("point", "/points/a%0A/charge", b'{"amount":1}', "user_id"),
    "a charge without a key": Bad("point", "/points/ann/charge", b'{"amount":1}', "Idempotency-Key", {}),
    "a coupon with a bad id": issuing(coupon(coupon_id="c 1"), "coupon_id"),
    "a coupon for a bad id": issuing(coupon(user_id="ann\n"), "user_id"),
    "a coupon worth nothing": issuing(coupon(discount=0), "discount"),
    "a coupon over 10^9": issuing(coupon(discount=10**9 + 1), "discount"),
    "a coupon without an offset": issuing(coupon(expires_at="2099-01-01T00:00:00"), "expires_at"),
    "a coupon of a day": issuing(coupon(expires_at="2099-01-01"), "expires_at"),
    "a coupon of no month": issuing(coupon(expires_at="2099-13-01T00:00:00Z"), "expires_at"),
    "a coupon in seconds": issuing(coupon(expires_at=4_102_444_800), "expires_at"),
    "a coupon for ever": issuing(coupon(expires_at=None), "expires_at"),
}


async def refused(shop: Shop, bad: Bad) -> None:
    """The request is refused by its field's name, and no service records anything."""
    before = records(shop)

    answer = await send(shop, "POST", bad.service, bad.path, bad.body, bad.headers)

    body = problem(
        answer,
        400,
        "idempotency-key-required" if bad.field == "Idempotency-Key" and not bad.headers else "invalid-request",
    )
    assert [error["field"] for error in body["errors"]] == [bad.field]
    assert all(error["message"] for error in body["errors"])
    assert bad.field in body["detail"]
    assert records(shop) == before


@pytest.mark.parametrize("bad", ORDERS.values(), ids=ORDERS)
async def test_an_order_that_cannot_be_meant_is_refused_by_the_name_of_the_field(open_all_day: Shop, bad: Bad) -> None:
    await refused(open_all_day, bad)


@pytest.mark.parametrize("bad", OTHERS.values(), ids=OTHERS)
async def test_what_else_cannot_be_meant_is_refused_by_the_name_of_the_field(open_all_day: Shop, bad: Bad) -> None:
    await refused(open_all_day, bad)


async def malformed(shop: Shop, service: str, path: str, body: bytes) -> None:
    before = records(shop)

    problem(await send(shop, "POST", service, path, body, ANN | KEY), 400, "malformed-request")

    assert records(shop) == before


@pytest.mark.parametrize("body", [b"{", b"order please", b"\xff\xfe", b"'{}'", b"\x00", b'{"\xff":1}'])
@pytest.mark.parametrize(
    ("service", "path"),
    [("order", "/orders"), ("product", "/products"), ("point", "/points/ann/charge"), ("coupon", "/coupons")],
)
async def test_what_is_not_json_is_malformed(open_all_day: Shop, service: str, path: str, body: bytes) -> None:
    await malformed(open_all_day, service, path, body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(order() + b" and more", id="something behind it"),
        pytest.param(order()[:-1], id="its end is missing"),
        pytest.param(b'{"lines":[{"product_id":"mug","quantity":NaN}]}', id="NaN"),
        pytest.param(b'{"lines":[{"product_id":"\\ud800","quantity":1}]}', id="half a character"),
    ],
)
async def test_an_order_that_is_almost_json_is_malformed(open_all_day: Shop, body: bytes) -> None:
    await malformed(open_all_day, "order", "/orders", body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(order() + b" " * (16 << 10), id="blank"),
        pytest.param(order(note="x" * (16 << 10)), id="an unknown field"),
        pytest.param(b"[" * 20_000, id="nested"),
    ],
)
async def test_a_body_over_16_kib_is_too_large(open_all_day: Shop, body: bytes) -> None:
    before = records(open_all_day)

    problem(await send(open_all_day, "POST", "order", "/orders", body, ANN), 413, "request-too-large")

    assert records(open_all_day) == before


async def test_a_body_that_does_not_say_how_long_it_is_is_cut_off_at_16_kib_too(open_all_day: Shop) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 1_024

    answer = await open_all_day.http.post(open_all_day.url("order", "/orders"), content=endless(), headers=JSON | ANN)

    problem(answer, 413, "request-too-large")


async def test_the_largest_order_there_may_be_is_understood(open_all_day: Shop) -> None:
    body = order(*({"product_id": f"{n:064}", "quantity": 1_000} for n in range(100)), coupon_id="c" * 64)

    answer = await send(open_all_day, "POST", "order", "/orders", body, {"X-User-Id": "u" * 64})

    assert problem(answer, 409, "product-unknown")["order_status"] == "CANCELED"
