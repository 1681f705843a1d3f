"""The fast path answers as Litestar does, to the byte; an unusual request goes through Litestar."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import pytest
from litestar import Litestar, post
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import Cookie
from litestar.params import HeaderParameter, JSONBody
from litestar.response import Redirect, Response
from msgspec import Struct

from infra.core.errors import Busy
from infra.http.app import build_app
from infra.http.fast_path import FAST_PATH
from infra.http.grammar import MAX_BODY_BYTES
from infra.http.idempotency_key import IdempotencyKey
from infra.http.problems import Problem, ProblemBody

RAN: list[bool] = []
"""Whether the background tasks that have run were of the fast path."""

Who = Annotated[str | None, HeaderParameter(name="X-User-Id", required=False)]


class Thing(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    count: int = 1


class ThingProblem(ProblemBody, kw_only=True):
    thing: str


class Made(Struct):
    name: str
    count: int
    user: str | None
    key: str | None


def app(*, short: bool) -> Litestar:
    @post("/things", status_code=200, opt={FAST_PATH: short})
    async def make(data: JSONBody[Thing], user: Who = None, idempotency_key: IdempotencyKey = None) -> Response[Made]:
        match data.name:
            case "problem":
                raise Problem(409, "too-many", "there are too many", {"X-Left": "0"}, ThingProblem, thing="t1")
            case "busy":
                raise Busy
            case "bug":
                raise ZeroDivisionError
            case "deep":
                raise RecursionError
            case "whole":
                cookies = [Cookie("seen", value="1", path="/things"), Cookie("kept", value="2", httponly=True)]
                ran = BackgroundTask(RAN.append, short)
                return Response(Made("whole", 0, user, None), status_code=201, cookies=cookies, background=ran)
            case "moved":
                return Redirect("/things/1", status_code=303)
            case "later":
                return Response(Made("later", 0, user, None), status_code=202, headers={"Location": "/things/1"})
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return Response(Made(data.name, data.count, user, idempotency_key), headers=headers)

    async def ready() -> list[str]:
        return []

    return build_app("test", [make], ready)


def client(of: Any) -> httpx.AsyncClient:
    json = {"Content-Type": "application/json"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(of), base_url="http://localhost", headers=json)


@pytest.fixture
async def both() -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    async with (
        client(app(short=True)) as short,
        client(app(short=False)) as long,
    ):
        yield short, long


GOOD = {
    "a body": {"content": b'{"name":"mug"}'},
    "all headers": {"content": b'{"name":"mug","count":2}', "headers": {"X-User-Id": "u1", "Idempotency-Key": "k"}},
    "a user that is none": {"content": b'{"name":"mug"}', "headers": {"X-User-Id": b"\xe9 1"}},
    "another status": {"content": b'{"name":"later"}'},
    "cookies and a background task": {"content": b'{"name":"whole"}'},
    "a redirect": {"content": b'{"name":"moved"}'},
    "a problem": {"content": b'{"name":"problem"}'},
    "busy": {"content": b'{"name":"busy"}'},
    "a bug": {"content": b'{"name":"bug"}'},
    "recursion": {"content": b'{"name":"deep"}'},
    "a content type with a charset": {
        "content": b'{"name":"mug"}',
        "headers": {"Content-Type": "application/json; charset=utf-8"},
    },
}

UNUSUAL = {
    "no body": {},
    "no JSON": {"content": b"{name"},
    "not UTF-8": {"content": b'{"name":"\xff"}'},
    "a wrong type": {"content": b'{"name":1}'},
    "a missing field": {"content": b"{}"},
    "an unknown field": {"content": b'{"name":"mug","size":1}'},
    "no object": {"content": b"[]"},
    "nested too deeply": {"content": b'{"name":' + b"[" * 8_000 + b"]" * 8_000 + b"}"},
    "too much": {"content": b'{"name":"' + b"x" * MAX_BODY_BYTES + b'"}'},
    "a bad key": {"content": b'{"name":"mug"}', "headers": {"Idempotency-Key": "a b"}},
    "an empty key": {"content": b'{"name":"mug"}', "headers": {"Idempotency-Key": ""}},
    "a key twice": {"content": b'{"name":"mug"}', "headers": [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]},
    "a slash too many": {"url": "/things/", "content": b'{"name":"mug"}'},
    "another method": {"method": "GET"},
    "a query": {"url": "/things?x=1", "content": b'{"name":"mug"}'},
    "another content type": {"content": b'{"name":"mug"}', "headers": {"Content-Type": "text/plain"}},
    "another Host": {"content": b'{"name":"mug"}', "headers": {"Host": "shop.example"}},
    "a page of another origin": {"content": b'{"name":"mug"}', "headers": {"Origin": "http://shop.example"}},
}


def told(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    return answer.status_code, dict(answer.headers), answer.content


@pytest.mark.parametrize("asks", (GOOD | UNUSUAL).values(), ids=(GOOD | UNUSUAL).keys())
async def test_both_ways_give_the_same_answer(
    asks: dict[str, Any], both: tuple[httpx.AsyncClient, httpx.AsyncClient]
) -> None:
    asked = {"method": "POST", "url": "/things", **asks}
    answers = [told(await client.request(**asked)) for client in both]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("asks", GOOD.values(), ids=GOOD.keys())
async def test_a_good_request_does_not_go_through_litestar(
    asks: dict[str, Any], both: tuple[httpx.AsyncClient, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("it went through Litestar")

    monkeypatch.setattr(Litestar, "__call__", never)
    answer = await both[0].post("/things", **asks)
    assert answer.status_code in (200, 201, 202, 303, 409, 503, 500, 400)


async def test_what_an_answer_has_besides_its_content_is_kept(
    both: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    RAN.clear()
    for client in both:
        answer = await client.post("/things", content=b'{"name":"whole"}')
        assert answer.status_code == 201
        assert answer.headers.get_list("set-cookie") == [
            *("seen=1; Path=/things; SameSite=lax", "kept=2; HttpOnly; Path=/; SameSite=lax"),
        ]
    assert RAN == [True, False]


def parts(*bodies: bytes) -> Iterator[dict[str, Any]]:
    for number, body in enumerate(bodies, 1):
        yield {"type": "http.request", "body": body, "more_body": number < len(bodies)}
    yield {"type": "http.disconnect"}


async def answered(received: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(received)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/things", "query_string": b"", "root_path": ""}
    scope["headers"] = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"14")]
    asgi: Any = app(short=True)
    await asgi(scope, receive, send)
    return sent


async def test_a_body_may_come_in_parts() -> None:
    sent = await answered(parts(b'{"name"', b":", b'"mug"}'))
    assert (sent[0]["status"], sent[1]["body"]) == (200, b'{"name":"mug","count":1,"user":null,"key":null}')


async def test_a_bad_body_in_parts_is_explained_by_litestar() -> None:
    sent = await answered(parts(b'{"name"', b":", b"1}"))
    assert sent[0]["status"] == 400
    assert b"name: has to be text, not a whole number" in sent[1]["body"]


async def test_a_client_that_hangs_up_within_a_body_makes_nothing() -> None:
    def hung_up() -> Iterator[dict[str, Any]]:
        yield {"type": "http.request", "body": b'{"name"', "more_body": True}
        while True:
            yield {"type": "http.disconnect"}

    assert [message for message in await answered(hung_up()) if message.get("status") == 200] == []
