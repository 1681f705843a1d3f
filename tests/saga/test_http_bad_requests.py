"""What is wrong around a body: who asks, under which key, for what, how; all of it problem+json, nothing recorded."""

import httpx
import msgspec
import pytest

from infra.local.services import service_names
from tests.infra.http.wire import answers, question
from tests.saga.asking import ANN, problem, records, send
from tests.shop import JSON, Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDER = b'{"lines":[{"product_id":"mug","quantity":1}]}'

KEYS = {
    "empty": "",
    "with a space": "a b",
    "of 256 characters": "k" * 256,
    "with other letters": "키".encode(),
}


@pytest.mark.parametrize("user", [None, "", "ann lee", "ann.lee", "a" * 65, "앤".encode(), "*", ">"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/orders"), ("GET", "/orders"), ("GET", "/orders/o1"), ("POST", "/orders/o1/cancel")]
)
async def test_who_does_not_say_who_they_are_is_not_served(
    open_all_day: Shop, method: str, path: str, user: str | bytes | None
) -> None:
    before = records(open_all_day)
    headers = {} if user is None else {"X-User-Id": user}
    body = ORDER if (method, path) == ("POST", "/orders") else b""

    answer = await send(open_all_day, method, "order", path, body, headers)

    assert "X-User-Id" in problem(answer, 401, "unauthorized")["detail"]
    assert "www-authenticate" in answer.headers
    assert records(open_all_day) == before


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize(
    ("service", "path", "body"),
    [
        ("order", "/orders", ORDER),
        ("product", "/products/mug/stock", b'{"quantity":1}'),
        ("point", "/points/ann/charge", b'{"amount":1}'),
    ],
)
async def test_an_idempotency_key_has_1_to_255_visible_characters(
    open_all_day: Shop, service: str, path: str, body: bytes, key: str | bytes
) -> None:
    before = records(open_all_day)

    answer = await send(open_all_day, "POST", service, path, body, ANN | {"Idempotency-Key": key})

    wrong = problem(answer, 400, "invalid-request")
    assert [error["field"] for error in wrong["errors"]] == ["Idempotency-Key"]
    assert records(open_all_day) == before


@pytest.mark.parametrize(
    ("service", "path", "field"),
    [
        ("product", "/products?limit=0", "limit"),
        ("product", "/products?limit=201", "limit"),
        ("product", "/products?limit=many", "limit"),
        ("product", "/products?limit=99999999999999999999999999", "limit"),
        ("product", "/products?after=a.b", "after"),
        ("product", "/products?after=mug%0A", "after"),
        ("coupon", "/coupons", "user_id"),
        ("coupon", "/coupons?user_id=", "user_id"),
        ("coupon", "/coupons?user_id=a%20b", "user_id"),
        ("coupon", "/coupons?user_id=ann&limit=-1", "limit"),
        ("coupon", "/coupons?user_id=ann&after=%3E", "after"),
        ("order", "/orders/a.b", "order_id"),
        ("order", "/orders/o1%0A", "order_id"),
        ("product", "/products/" + "p" * 65, "product_id"),
        ("point", "/points/*", "user_id"),
        ("coupon", "/coupons/c%201", "coupon_id"),
    ],
)
async def test_a_question_that_cannot_be_meant_is_refused_by_the_name_of_the_parameter(
    open_all_day: Shop, service: str, path: str, field: str
) -> None:
    answer = await send(open_all_day, "GET", service, path, headers=ANN)

    assert [error["field"] for error in problem(answer, 400, "invalid-request")["errors"]] == [field]


@pytest.mark.parametrize("service", service_names())
@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz/more", "/schema/nothing", "/schema/nothing.json"])
async def test_what_is_not_there_is_a_problem_too(open_all_day: Shop, service: str, path: str) -> None:
    problem(await send(open_all_day, "GET", service, path, headers=ANN), 404, "not-found")


METHODS = [
    ("order", "/orders", {"GET", "POST"}),
    ("order", "/orders/o1", {"GET"}),
    ("order", "/orders/o1/cancel", {"POST"}),
    ("order", "/ops/orders", {"GET"}),
    ("product", "/products", {"GET", "POST"}),
    ("product", "/products/mug/stock", {"POST"}),
    ("point", "/points/ann", {"GET"}),
    ("coupon", "/coupons", {"GET", "POST"}),
    ("coupon", "/healthz", {"GET"}),
    ("coupon", "/schema", {"GET"}),
]


def allowed(answer: httpx.Response) -> set[str]:
    return set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
@pytest.mark.parametrize(("service", "path", "there"), METHODS)
async def test_a_method_that_is_not_there_is_a_problem_that_names_those_that_are(
    open_all_day: Shop, method: str, service: str, path: str, there: set[str]
) -> None:
    answer = await send(open_all_day, method, service, path, headers=ANN)

    if method in there:
        assert answer.status_code != 405
    else:
        assert allowed(answer) == there | {"OPTIONS"}
        assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
        if method == "HEAD":
            assert answer.content == b""
        else:
            problem(answer, 405, "method-not-allowed")


@pytest.mark.parametrize(("service", "path", "there"), METHODS)
async def test_options_names_the_methods_that_are_there(
    open_all_day: Shop, service: str, path: str, there: set[str]
) -> None:
    answer = await send(open_all_day, "OPTIONS", service, path, headers=ANN)

    assert (answer.status_code, allowed(answer)) == (204, there | {"OPTIONS"})


async def test_who_does_not_say_who_he_is_is_told_so_before_anything_else(open_all_day: Shop) -> None:
    answer = await open_all_day.http.post(open_all_day.url("order", "/orders"), content=b"{", headers=JSON)
    problem(answer, 401, "unauthorized")


@pytest.mark.parametrize("first_counts", [True, False])
@pytest.mark.parametrize(
    ("name", "values"),
    [("X-User-Id", ["ann", "mallory"]), ("X-User-Id", ["ann", ""]), ("Idempotency-Key", ["twice-1", "twice-2"])],
)
async def test_what_decides_is_said_once(open_all_day: Shop, name: str, values: list[str], first_counts: bool) -> None:
    before = records(open_all_day)
    both = [(name, value) for value in (values if first_counts else reversed(values))]
    others = {key: value for key, value in (ANN | {"Idempotency-Key": "once"}).items() if key != name}

    answer = await send(open_all_day, "POST", "order", "/orders", ORDER, [*others.items(), *both])

    assert [error["field"] for error in problem(answer, 400, "invalid-request")["errors"]] == [name]
    assert records(open_all_day) == before


async def test_blanks_at_the_end_of_a_value_are_no_part_of_it(open_all_day: Shop) -> None:
    """A client library might trim them itself."""
    await open_all_day.register("mug")
    port = int(open_all_day.url("order", "").rpartition(":")[2])
    given = []
    for blanks in (b"", b" ", b" \t  "):
        length = b"Content-Length: %d" % len(ORDER)
        headers = [b"X-User-Id: ann" + blanks, b"Idempotency-Key: blank" + blanks, b"Connection: close"]
        asked = question(ORDER, *headers, length, line=b"POST /orders HTTP/1.1")
        (answer,) = await answers(port, asked.replace(b"Host: test", b"Host: localhost"))
        given.append((answer[0], msgspec.json.decode(answer[2])["order_id"]))

    assert given == [(b"HTTP/1.1 200 OK", given[0][1])] * 3
