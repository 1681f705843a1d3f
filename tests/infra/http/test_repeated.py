"""What decides may be said once: of two values, nobody knows which one another reader takes."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from litestar import get, post
from litestar.params import FromQuery, HeaderParameter, JSONBody
from litestar.response import Response

from infra.http.app import build_app
from infra.http.fast_path import FAST_PATH
from infra.http.idempotency_key import IdempotencyKey
from tests.infra.http.wire import answers, question, ready, serving

Who = Annotated[str | None, HeaderParameter(name="X-User-Id", required=False)]
Tenant = Annotated[str, HeaderParameter(name="X-Tenant")]


def routes() -> list[Any]:
    @post("/things", opt={FAST_PATH: True})
    async def make(data: JSONBody[dict[str, int]], user: Who = None, key: IdempotencyKey = None) -> Response[list[Any]]:
        return Response([user, key])

    @get("/things")
    async def show(tenant: Tenant, limit: FromQuery[int] = 0) -> list[Any]:
        return [tenant, limit]

    return [make, show]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    asgi: Any = build_app("test", routes(), ready, allowed_hosts=["test"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://test") as client:
        yield client


def repeated(answer: httpx.Response) -> tuple[str, str]:
    """Which parameter the answer says was repeated, and where."""
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    problem = answer.json()
    assert problem["type"] == "/problems/invalid-request"
    ((error,)) = problem["errors"]
    assert error["message"] == "given 2 times; it must be given once"
    return error["field"], error["source"]


@pytest.mark.parametrize("second", ["bob", "ann", ""])
@pytest.mark.parametrize(
    "name", ["X-User-Id", "Idempotency-Key", "Content-Type", "Host", "Authorization", "Content-Length", "X-Tenant"]
)
async def test_a_header_that_decides_is_given_once(client: httpx.AsyncClient, name: str, second: str) -> None:
    headers = [(name, "ann"), ("Accept", "*/*"), (name.lower(), second)]

    assert repeated(await client.post("/things", content=b"{}", headers=headers)) == (name, "header")


async def test_other_headers_may_be_lists(client: httpx.AsyncClient) -> None:
    headers = [("Via", "1.1 a"), ("Via", "1.1 b"), ("X-Tenant", "t")]

    assert (await client.get("/things", headers=headers)).json() == ["t", 0]


@pytest.mark.parametrize("query", ["limit=1&limit=2", "limit=1&x=2&limit=1", "limit=1&l%69mit=2", "limit&limit=2"])
async def test_a_query_parameter_is_given_once(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/things?{query}", headers={"X-Tenant": "t"})

    assert repeated(answer) == ("limit", "query")


async def test_several_query_parameters_are_none_twice(client: httpx.AsyncClient) -> None:
    answer = await client.get("/things?limit=1&x=limit&y=", headers={"X-Tenant": "t"})

    assert answer.json() == ["t", 1]


@pytest.mark.parametrize(
    "path", ["//things", "/thin%67s", "/%2fthings", "/things%2F", "/things%5c", "/./things", "/things/"]
)
async def test_a_path_in_another_spelling_is_not_there(path: str) -> None:
    """A proxy that lets only some paths pass must not take another path for the one that is served."""
    async with serving(*routes()) as port:
        line = b"GET %b HTTP/1.1" % path.encode()
        ((status, _, _),) = await answers(port, question(b"", b"X-Tenant: t", b"Connection: close", line=line))

    assert status == b"HTTP/1.1 404 Not Found"


async def test_what_needs_encoding_may_be_encoded(client: httpx.AsyncClient) -> None:
    assert (
        (await client.get("/things%20", headers={"X-Tenant": "t"})).json()["detail"].startswith("there is no such path")
    )
    assert (await client.get("/things?limit=%31", headers={"X-Tenant": "t"})).json() == ["t", 1]


@pytest.mark.parametrize("limit", ["1.0", "1e2", "100e-2", "-0", "01", "1_0", "%2B1"])
async def test_a_whole_number_in_a_query_has_one_spelling(client: httpx.AsyncClient, limit: str) -> None:
    answer = await client.get(f"/things?limit={limit}", headers={"X-Tenant": "t"})

    assert answer.status_code == 400
    ((error,)) = answer.json()["errors"]
    assert (error["field"], error["source"]) == ("limit", "query")
    assert error["message"] == "has to be a whole number in plain digits, such as 20"


async def test_a_whole_number_in_a_query_may_be_negative(client: httpx.AsyncClient) -> None:
    assert (await client.get("/things?limit=-3", headers={"X-Tenant": "t"})).json() == ["t", -3]


async def test_what_is_no_number_in_every_route_is_judged_by_its_route() -> None:
    @get("/texts")
    async def texts(limit: FromQuery[str]) -> list[str]:
        return [limit]

    asgi: Any = build_app("test", [*routes(), texts], ready, allowed_hosts=["test"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://test") as client:
        assert (await client.get("/texts?limit=1e2")).json() == ["1e2"]
