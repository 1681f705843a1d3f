"""What every service says about itself: alive, ready, and an OpenAPI document with a page that works offline."""

import re
from typing import Any

import pytest

from tests.saga.asking import problem, send
from tests.shop import Shop, attempts

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = {
    "order": {
        "/orders": {"get", "post"},
        "/orders/{order_id}": {"get"},
        "/orders/{order_id}/cancel": {"post"},
        "/ops/orders": {"get"},
    },
    "product": {
        "/products": {"get", "post"},
        "/products/popular": {"get"},
        "/products/{product_id}": {"get"},
        "/products/{product_id}/stock": {"post"},
    },
    "point": {"/points/{user_id}": {"get"}, "/points/{user_id}/charge": {"post"}},
    "coupon": {"/coupons": {"get", "post"}, "/coupons/{coupon_id}": {"get"}},
}
HEALTH = {"/healthz": {"get"}, "/readyz": {"get"}}
OPERATING = {
    "/metrics": {"get"},
    "/ops/dead-letters": {"get"},
    "/ops/dead-letters/redrive": {"post"},
    "/ops/dead-letters/drop": {"post"},
}
VIEWS = {"/ops/views": {"get"}, "/ops/views/{name}/rebuild": {"post"}}

on_every_service = pytest.mark.parametrize("service", ROUTES)


async def openapi(shop: Shop, service: str) -> dict[str, Any]:
    answer = await shop.get(service, "/schema/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


@on_every_service
async def test_a_running_service_is_alive_and_ready(open_all_day: Shop, service: str) -> None:
    alive, ready = await open_all_day.get(service, "/healthz"), await open_all_day.get(service, "/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()["ready"]) == (200, True)


@on_every_service
async def test_the_document_is_openapi_3_1_and_has_every_route_and_no_other(open_all_day: Shop, service: str) -> None:
    document = await openapi(open_all_day, service)

    assert document["openapi"].startswith("3.1.")
    assert document["info"]["description"].endswith(".")
    assert (await open_all_day.get(service, "/")).json()[
        "detail"
    ] == "there is no such path; /schema shows all that there are"
    assert {path: set(methods) for path, methods in document["paths"].items()} == {
        **ROUTES[service],
        **HEALTH,
        **VIEWS,
        **OPERATING,
    }


@on_every_service
async def test_every_route_says_what_it_is_for_and_which_problems_it_answers(open_all_day: Shop, service: str) -> None:
    document = await openapi(open_all_day, service)

    for path in ROUTES[service]:
        for operation in document["paths"][path].values():
            assert operation["summary"]
            problems = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert "400" in problems
            assert all([*answer["content"]] == ["application/problem+json"] for answer in problems.values())


@on_every_service
async def test_every_type_the_document_refers_to_is_in_it(open_all_day: Shop, service: str) -> None:
    answer = await open_all_day.get(service, "/schema/openapi.json")

    references = set(re.findall(r'"#/components/schemas/([^"]+)"', answer.text))

    assert references
    assert references <= set(answer.json()["components"]["schemas"])


async def test_the_document_has_the_limits_that_are_held(open_all_day: Shop) -> None:
    document = await openapi(open_all_day, "order")
    schemas = document["components"]["schemas"]

    line, order = schemas["OrderLine"]["properties"], schemas["PlaceOrder"]["properties"]
    assert (line["quantity"]["minimum"], line["quantity"]["maximum"]) == (1, 1_000)
    assert (order["lines"]["minItems"], order["lines"]["maxItems"]) == (1, 100)
    assert (order["points"]["minimum"], order["points"]["maximum"]) == (0, 10**12)
    headers = [parameter["name"] for parameter in document["paths"]["/orders"]["post"]["parameters"]]
    assert sorted(headers) == ["Idempotency-Key", "X-User-Id"]


async def test_a_canceled_orders_problem_is_documented_with_the_order(open_all_day: Shop) -> None:
    document = await openapi(open_all_day, "order")

    answer = document["paths"]["/orders"]["post"]["responses"]["409"]["content"]["application/problem+json"]
    body = document["components"]["schemas"][answer["schema"]["$ref"].rpartition("/")[2]]
    assert {"type", "title", "status", "detail", "order_id", "order_status"} == set(body["required"])
    assert "order_id" not in document["components"]["schemas"]["ProblemBody"]["properties"]


async def test_every_route_that_needs_a_caller_refuses_a_request_without_one(open_all_day: Shop) -> None:
    document = await openapi(open_all_day, "order")
    routes = [
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "X-User-Id"
    ]

    assert len(routes) == 4
    for method, path in routes:
        problem(await send(open_all_day, method.upper(), "order", path.format(order_id="o1")), 401, "unauthorized")


@on_every_service
async def test_the_page_and_all_that_it_loads_are_the_services_own(open_all_day: Shop, service: str) -> None:
    page = await open_all_day.get(service, "/schema")

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    loaded = re.findall(r"(?:src|href)=['\"]?([^'\" >]+)", page.text)
    assert {"/schema/swagger-ui-bundle.js", "/schema/swagger-ui.css", "/schema/start.js", "data:,"} == set(loaded)
    for path in loaded:
        if path != "data:,":
            answer = await open_all_day.get(service, path)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/css" if path.endswith("css") else "text/javascript")
            assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_service_without_its_broker_is_alive_but_not_ready(shop: Shop) -> None:
    await shop.kill("nats")

    for service in ROUTES:
        async for _ in attempts(f"{service} to notice"):
            not_ready = await shop.get(service, "/readyz")
            if not_ready.status_code != 200:
                break
        problem(not_ready, 503, "not-ready")
        assert not_ready.headers["Retry-After"] == "1"
        assert (await shop.get(service, "/healthz")).status_code == 200
