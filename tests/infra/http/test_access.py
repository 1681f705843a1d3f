"""Who may use a route: a token where one is needed, with the scope that is needed, on both ways to a route."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from litestar import get, post
from litestar.params import HeaderParameter, JSONBody
from litestar.response import Response

from infra.auth.principal import KeysUnavailable, Principal, TokenRefused
from infra.auth.rate_limit import RateLimit
from infra.http.access import (
    ACCESS,
    ANY_CALLER,
    PUBLIC,
    AccessMissing,
    Authentication,
    check_declared,
    may_see,
)
from infra.http.app import build_app
from infra.http.fast_path import FAST_PATH, FastPathRefused
from infra.http.parameters import AnyRequest, PathId

Who = Annotated[str | None, HeaderParameter(name="X-User-Id", required=False)]


class Words:
    """Knows tokens of the form `user+scope`, after they were verified once; `bad` and `down` are what they say."""

    trouble = None

    def __init__(self) -> None:
        self.verified: list[str] = []

    def known(self, token: str) -> Principal | None:
        return self._caller(token) if token in self.verified else None

    async def verify(self, token: str) -> Principal:
        if token == "bad":
            raise TokenRefused("expired", "the token has expired")
        if token == "down":
            raise KeysUnavailable("the issuer at https://inside.example is away")
        self.verified.append(token)
        return self._caller(token)

    def _caller(self, token: str) -> Principal:
        subject, *scopes = token.replace("~", ":").split("+")
        return Principal(subject, frozenset(scopes), 0.0)


@post("/things", status_code=200, opt={ACCESS: ANY_CALLER, FAST_PATH: True})
async def fast(data: JSONBody[dict[str, int]], user: Who = None) -> Response[list[Any]]:
    return Response([user, data])


@post("/slow", status_code=200, opt={ACCESS: ANY_CALLER})
async def slow(data: JSONBody[dict[str, int]], user: Who = None) -> list[Any]:
    return [user, data]


@post("/writes", status_code=200, opt={ACCESS: "things:write"})
async def write(data: JSONBody[dict[str, int]]) -> dict[str, int]:
    return data


@get("/things/{owner:str}", opt={ACCESS: ANY_CALLER})
async def show(owner: PathId, request: AnyRequest) -> bool:
    return may_see(request, owner)


async def broken() -> list[str]:
    return ["the disk is full"]


async def ready() -> list[str]:
    return []


def built(verifier: Words | None, readiness: Any = ready) -> Any:
    authentication = None if verifier is None else Authentication(verifier, "X-User-Id")
    return build_app(
        "test", [fast, slow, write, show], readiness, lambda: ["look at this"], authentication=authentication
    )


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.fixture
def verifier() -> Words:
    return Words()


@pytest.fixture
async def http(verifier: Words) -> AsyncIterator[httpx.AsyncClient]:
    async with client(built(verifier)) as http:
        yield http


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}".replace(":", "~")}


@pytest.mark.parametrize("path", ["/things", "/slow"])
async def test_the_user_is_the_tokens_subject_whatever_the_header_says(
    http: httpx.AsyncClient, verifier: Words, path: str
) -> None:
    for name in ("X-User-Id", "x-user-id", "X-USER-ID"):
        answer = await http.post(path, json={"a": 1}, headers={**bearer("ann"), name: "ben"})
        assert answer.json() == ["ann", {"a": 1}]

    assert verifier.verified == ["ann"]


@pytest.mark.parametrize("path", ["/things", "/slow", "/writes", "/nothing", "/metrics"])
async def test_without_a_token_nothing_is_told(http: httpx.AsyncClient, path: str) -> None:
    for body in ({"a": 1}, {"a": "wrong"}, None):
        answer = await http.post(path, json=body, headers={"X-User-Id": "ann"})
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize(
    ("value", "status", "error"),
    [
        ("Bearer bad", 401, 'error="invalid_token", error_description="the token has expired"'),
        ("bearer   ann", 200, ""),
        ("Bearer", 401, 'error="invalid_request"'),
        ("Bearer ", 401, 'error="invalid_request"'),
        ("Bearer a b", 401, 'error="invalid_request"'),
        ("Bearer a,b", 401, 'error="invalid_request"'),
        ("Basic YTpi", 401, 'error="invalid_request"'),
        ("ann", 401, 'error="invalid_request"'),
        ("", 401, 'error="invalid_request"'),
        ('Bearer x"y', 401, 'error="invalid_request"'),
    ],
)
async def test_other_values_of_the_header(http: httpx.AsyncClient, value: str, status: int, error: str) -> None:
    for path in ("/things", "/slow"):
        answer = await http.post(path, json={"a": 1}, headers={"Authorization": value})
        assert answer.status_code == status
        assert error in answer.headers.get("WWW-Authenticate", "")


async def test_without_keys_it_is_the_services_fault_and_says_nothing_of_the_issuer(http: httpx.AsyncClient) -> None:
    answer = await http.post("/things", json={"a": 1}, headers=bearer("down"))

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "inside.example" not in answer.text


async def test_a_scope_is_asked_for_before_the_body_is_judged(http: httpx.AsyncClient) -> None:
    for token in ("ann", "ann+other", "ann+things", "ann+things:write2"):
        answer = await http.post("/writes", json={"a": "wrong"}, headers=bearer(token))
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/insufficient-scope")
        assert 'error="insufficient_scope", scope="things:write"' in answer.headers["WWW-Authenticate"]

    assert (await http.post("/writes", json={"a": 1}, headers=bearer("ann+things:write"))).json() == {"a": 1}


async def test_what_is_somebody_elses_is_for_operators(http: httpx.AsyncClient) -> None:
    seen = {
        token: (await http.get("/things/ann", headers=bearer(token))).json()
        for token in ("ann", "ben", "ben+ops:read", "ben+ops:redrive")
    }

    assert seen == {"ann": True, "ben": False, "ben+ops:read": True, "ben+ops:redrive": False}


@pytest.mark.parametrize("path", ["/healthz", "/schema", "/schema/openapi.json", "/readyz"])
async def test_probes_and_the_document_are_public_also_with_a_bad_token(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 200
    assert (await http.get(path, headers=bearer("bad"))).status_code == 200
    assert (await http.get("/schemas")).status_code == 401


async def test_details_of_readiness_are_for_operators(http: httpx.AsyncClient, verifier: Words) -> None:
    assert (await http.get("/readyz")).json() == {"ready": True, "pid": 0, "why": [], "warnings": []}
    assert (await http.get("/readyz", headers=bearer("ann"))).json()["warnings"] == []
    assert (await http.get("/readyz", headers=bearer("ann+ops:read"))).json()["warnings"] == ["look at this"]
    async with client(built(verifier, broken)) as other:
        assert "disk" not in (await other.get("/readyz")).text
        assert "disk" in (await other.get("/readyz", headers=bearer("ann+ops:read"))).text


@pytest.mark.parametrize("path", ["/things", "/slow"])
async def test_one_who_asks_too_often_waits_and_nobody_else(verifier: Words, path: str) -> None:
    now = [0.0]
    app: Any = build_app(
        "test", [fast, slow], ready, authentication=Authentication(verifier, limit=RateLimit(0.5, 2, lambda: now[0]))
    )
    async with client(app) as http:

        async def asked(token: str) -> int:
            return (await http.post(path, json={}, headers=bearer(token))).status_code

        assert [await asked("ann") for _ in range(3)] == [200, 200, 429]
        assert await asked("ben") == 200
        refused = await http.post(path, json={}, headers=bearer("ann"))
        assert (refused.json()["type"], refused.headers["Retry-After"]) == ("/problems/too-many-requests", "2")
        assert await asked("bad") == 401
        now[0] = 2.0
        assert [await asked("ann"), await asked("ann")] == [200, 429]


async def test_without_tokens_all_is_as_it_was() -> None:
    async with client(built(None)) as http:
        assert (await http.post("/things", json={}, headers={"X-User-Id": "ann", **bearer("bad")})).json() == [
            "ann",
            {},
        ]
        assert (await http.post("/writes", json={"a": 1})).json() == {"a": 1}
        assert (await http.get("/things/ann")).json() is True
        assert (await http.get("/readyz")).json()["warnings"] == ["look at this"]
        document = (await http.get("/schema/openapi.json")).json()
        assert "securitySchemes" not in document["components"]
        assert not any("security" in one for path in document["paths"].values() for one in path.values())


async def test_the_document_says_who_may_do_what(http: httpx.AsyncClient) -> None:
    document = (await http.get("/schema/openapi.json")).json()

    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    operations = {path: next(iter(methods.values())) for path, methods in document["paths"].items()}
    assert {path: one["security"] for path, one in operations.items()} == {
        "/healthz": [{}],
        "/readyz": [{}],
        "/slow": [{"token": []}],
        "/things": [{"token": []}],
        "/things/{owner}": [{"token": []}],
        "/writes": [{"token": ["things:write"]}],
    }
    assert "X-User-Id" not in str(document)
    assert {"401", "403", "429"} <= operations["/writes"]["responses"].keys()


async def test_a_route_that_does_not_say_who_may_use_it_stops_the_start() -> None:
    @get("/secrets")
    async def forgotten() -> str:
        return "s"

    check_declared(built(Words()))
    app = build_app("test", [forgotten], ready, authentication=Authentication(Words()))
    with pytest.raises(AccessMissing, match="GET /secrets does not declare who may use it"):
        check_declared(app)
    async with client(app) as http:  # and nobody could use it
        assert (await http.get("/secrets", headers=bearer("ann+ops:read"))).status_code == 403


@pytest.mark.parametrize("access", [PUBLIC, ANY_CALLER])
async def test_a_path_is_public_if_all_its_methods_are(access: str) -> None:
    @get("/things", opt={ACCESS: PUBLIC})
    async def read() -> str:
        return "read"

    @post("/things", opt={ACCESS: access})
    async def make() -> str:
        return "made"

    app: Any = build_app("test", [read, make], ready, authentication=Authentication(Words()))
    async with client(app) as http:
        assert (await http.get("/things")).status_code == (200 if access == PUBLIC else 401)


def test_a_route_with_a_scope_has_no_fast_path() -> None:
    @post("/writes", status_code=200, opt={ACCESS: "things:write", FAST_PATH: True})
    async def make(data: JSONBody[dict[str, int]]) -> Response[int]:
        return Response(1)

    with pytest.raises(FastPathRefused, match="the scope things:write"):
        build_app("test", [make], ready)
