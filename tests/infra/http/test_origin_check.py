"""Who may ask: requests to the service's own names, from its own pages or from no page, with JSON."""

from typing import Any

import httpx
import pytest
from litestar import Litestar, get, post
from litestar.params import JSONBody
from litestar.response import Response

from infra.http.app import build_app
from infra.http.fast_path import FAST_PATH
from infra.http.origin_check import OriginCheck
from infra.http.problems import Problem

Headers = list[tuple[str, str]]

OWN = ("Host", "localhost:8001")
JSON = ("Content-Type", "application/json")
BODY = ("Content-Length", "2")


def refusal(*headers: tuple[str, str], hosts: tuple[str, ...] = ()) -> str | None:
    """The status and name of the refusal of a request with these headers; None if it passes."""
    problem = OriginCheck(hosts).refusal([(name.lower().encode(), value.encode()) for name, value in headers])
    return None if problem is None else f"{problem.body.status} {problem.body.type.removeprefix('/problems/')}"


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8001", "LOCALHOST:8001", "127.0.0.1:8001", "127.0.0.1", "127.8.9.1:1", "[::1]:8001"],
)
def test_the_names_of_loopback_are_the_services_own_on_every_port(host: str) -> None:
    assert refusal(("Host", host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example:8001", "localhost.attacker.example:8001", "attacker.example", "", " ", "localhost:",
        "localhost:x",
        "127.0.0.1.nip.io:8001", "10.0.0.1:8001", "[::2]:8001", "0.0.0.0:8001",
        "localhost:8001\n", "user@localhost:8001",
        "localhost:8001, attacker.example", "localhost/attacker.example", "x.localhost:8001",
    ],
)  # fmt: skip
def test_any_other_name_is_misdirected(host: str) -> None:
    assert refusal(("Host", host)) == "421 misdirected-request"


def test_of_two_hosts_neither_may_be_another() -> None:
    assert refusal(OWN, ("Host", "attacker.example")) == "421 misdirected-request"
    assert refusal(("Host", "attacker.example"), OWN) == "421 misdirected-request"


def test_a_request_without_a_host_is_malformed() -> None:
    assert refusal() == "400 malformed-request"


@pytest.mark.parametrize("host", ["shop.example", "shop.example:443", "SHOP.example:8001", "api.shop.example:8443"])
def test_a_name_that_the_operator_lists_is_the_services_own(host: str) -> None:
    hosts = ("Shop.Example", "api.shop.example:8443")

    assert refusal(("Host", host), hosts=hosts) is None
    assert refusal(("Host", host)) == "421 misdirected-request"
    assert refusal(("Host", "api.shop.example:8444"), hosts=hosts) == "421 misdirected-request"


@pytest.mark.parametrize("origin", ["http://localhost:8001", "https://localhost:8001", "http://LOCALHOST:8001"])
def test_a_page_of_the_service_may_ask_it(origin: str) -> None:
    assert refusal(OWN, ("Origin", origin)) is None


@pytest.mark.parametrize(
    "origin",
    [
        "http://attacker.example", "http://localhost:3000", "http://localhost", "http://127.0.0.1:8001", "null", "",
        "file://", "chrome-extension://localhost:8001", "localhost:8001", "http://localhost:8001.attacker.example",
    ],
)  # fmt: skip
def test_a_page_of_any_other_origin_may_not(origin: str) -> None:
    assert refusal(OWN, ("Origin", origin)) == "403 foreign-origin"
    assert refusal(OWN, ("Origin", "http://localhost:8001"), ("Origin", origin)) == "403 foreign-origin"


def test_a_page_of_a_name_that_the_operator_lists_may_ask_through_a_proxy_that_changes_the_host() -> None:
    assert refusal(OWN, ("Origin", "https://shop.example"), hosts=("shop.example",)) is None


@pytest.mark.parametrize("body", [BODY, ("Transfer-Encoding", "chunked")])
@pytest.mark.parametrize(
    "types",
    [
        [], [""], ["text/plain"], ["application/x-www-form-urlencoded"], ["multipart/form-data; boundary=x"],
        ["application/jsonp"], ["text/json"], ["text/plain; application/json"], ["application/json, text/plain"],
        ["application/json", "text/plain"], ["text/plain", "application/json"],
    ],
)  # fmt: skip
def test_a_body_that_is_not_said_to_be_json_is_refused(types: list[str], body: tuple[str, str]) -> None:
    assert refusal(OWN, *(("Content-Type", one) for one in types), body) == "415 unsupported-media-type"


@pytest.mark.parametrize("said", ["application/json", "Application/JSON ; charset=utf-8", " application/json"])
def test_json_is_taken_however_it_is_written(said: str) -> None:
    assert refusal(OWN, ("Content-Type", said), BODY) is None


@pytest.mark.parametrize("length", ["0", "00"])
def test_no_body_needs_no_type(length: str) -> None:
    assert refusal(OWN, ("Content-Length", length)) is None


# On every route -------------------------------------------------------------------------------------------------------

done: list[str] = []


@post("/fast", opt={FAST_PATH: True})
async def fast(data: JSONBody[dict[str, int]]) -> Response[dict[str, int]]:
    done.append("fast")
    return Response(data)


@post("/slow")
async def slow(data: JSONBody[dict[str, int]]) -> dict[str, int]:
    done.append("slow")
    return data


@post("/bodiless")
async def bodiless() -> None:
    done.append("bodiless")


@get("/read")
async def read() -> dict[str, int]:
    done.append("read")
    return {}


@pytest.fixture
def app() -> Litestar:
    async def ready() -> list[str]:
        return []

    done.clear()
    return build_app("test", [fast, slow, bodiless, read], ready, allowed_hosts=["shop.example"])


ROUTES = [("POST", "/fast"), ("POST", "/slow"), ("POST", "/bodiless"), ("GET", "/read"), ("GET", "/healthz")]
ROUTES += [
    ("GET", "/readyz"),
    ("GET", "/schema"),
    ("GET", "/schema/openapi.json"),
    ("GET", "/none"),
    ("OPTIONS", "/fast"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Host": "attacker.example"}, 421), ({"Origin": "http://attacker.example"}, 403)],
    ids=["rebinding", "foreign page"],
)
async def test_no_route_answers_another_page(
    app: Any, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:1") as client:
        answer = await client.request(method, path, json={"a": 1} if method == "POST" else None, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert done == []


@pytest.mark.parametrize(("method", "path"), ROUTES[:4])
async def test_every_route_answers_its_own_page_and_an_allowed_name(app: Any, method: str, path: str) -> None:
    for base, origin in (("http://localhost:1", "http://localhost:1"), ("http://shop.example", "https://shop.example")):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
            headers = {"Origin": origin}
            body = {"a": 1} if path in ("/fast", "/slow") else None
            assert (await client.request(method, path, json=body, headers=headers)).is_success

    assert len(done) == 2


@pytest.mark.parametrize("path", ["/fast", "/slow", "/bodiless", "/none"])
async def test_no_route_reads_a_body_that_a_form_can_send(app: Any, path: str) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:1") as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            answer = await client.post(path, content=b'{"a":1}', headers={"Content-Type": kind})
            assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")

    assert done == []


def test_every_refusal_names_the_next_step() -> None:
    steps = {"Host": "a", "Origin": "http://a"}
    for name, value in steps.items():
        problem = OriginCheck().refusal([(b"host", b"localhost"), (name.lower().encode(), value.encode())])
        assert isinstance(problem, Problem)
        assert "ALLOWED_HOSTS" in problem.body.detail
