"""The dashboard of a system that asks for tokens: operators sign in with their own, and may do what it says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from time import time
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from infra.auth.principal import OPS_READ, OPS_REDRIVE, Principal, TokenRefused
from ops.dashboard import sessions
from ops.dashboard.sessions import Operator, Sessions
from ops.dashboard.sign_in import own_path
from tests.issuer import Issuer
from tests.ops.asking import told
from tests.ops.boards import Board, words
from tests.ops.test_dashboard_dead_letters import fields
from tests.saga.test_dead_letters import say, until_parked
from tests.shop import PATIENCE_S, Shop, attempts, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

ISSUER = Issuer("EdDSA")
PAGES = [
    "/",
    "/orders",
    "/orders/o1",
    "/dead-letters",
    "/find?q=mug",
    "/live",
    "/figures",
    "/dead-letters/operations/x",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def board(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Board]:
    """A dashboard with a token of its own that may only read, on a shop with a foreign message as a dead letter."""
    folder = tmp_path_factory.mktemp("secured")
    own = folder / "dashboard.token"
    own.write_text(ISSUER.token(OPS_READ, sub="dashboard"))
    settings: dict[str, Any] = {**ISSUER.settings(folder / "keys.json"), "OPERATOR_TOKEN_FILE": str(own)}
    async with open_shop(folder, **settings) as shop:
        await say(shop, "point.used.o1", b"garbage")
        await until_parked(shop, 1)
        made = Board(shop)
        await made.start()
        yield made


@contextlib.asynccontextmanager
async def signed_in(board: Board, *scopes: str, **claims: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of an operator with these scopes."""
    async with httpx.AsyncClient(base_url=board.url, timeout=PATIENCE_S, trust_env=False) as http:
        answer = await enter(http, ISSUER.token(*scopes, sub="ann", **claims))
        assert (answer.status_code, answer.headers["location"]) == (303, "/"), words(answer.text)
        yield http


async def enter(http: httpx.AsyncClient, token: str, wanted: str = "/") -> httpx.Response:
    form = fields((await http.get(f"/sign-in?next={quote(wanted, safe='')}")).text)
    return await http.post("/sign-in", data={**form, "own": token})


@pytest.mark.parametrize("path", PAGES)
async def test_without_signing_in_nothing_is_shown(board: Board, path: str) -> None:
    answer = await board.get(path)

    assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={quote(path, safe='')}")
    assert answer.content == b""
    answer = await board.get(path, Accept="text/event-stream")
    assert answer.status_code == 401
    assert (await board.get(path, Authorization="Bearer garbage")).status_code == 401
    assert (await board.get(path, Cookie=f"session-{board.url.rpartition(':')[2]}=made-up")).status_code == 303


async def test_what_is_needed_to_sign_in_is_for_all(board: Board) -> None:
    page = await board.get("/sign-in")

    assert page.status_code == 200
    assert "Overview" not in page.text
    assert (await board.get("/healthz")).status_code == 200
    style = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
    assert (await board.get(style)).status_code == 200


@pytest.mark.parametrize(
    ("made", "status", "why"),
    [
        (lambda: "garbage", 401, "this is no token"),
        (lambda: ISSUER.token(OPS_READ, iat=int(time()) - 900, exp=int(time()) - 300), 401, "has expired"),
        (ISSUER.token, 403, "lacks the scope ops:read"),
        (lambda: ISSUER.token(OPS_REDRIVE), 403, "lacks the scope ops:read"),
    ],
    ids=["garbage", "expired", "no scope", "may not read"],
)
async def test_a_token_that_may_not_read_signs_nobody_in(
    board: Board, made: Callable[[], str], status: int, why: str
) -> None:
    token = made()
    async with httpx.AsyncClient(base_url=board.url, trust_env=False, timeout=PATIENCE_S) as http:
        answer = await enter(http, token)

        assert (answer.status_code, why in words(answer.text)) == (status, True)
        assert token not in answer.text
        assert "set-cookie" not in answer.headers
        assert (await http.get("/")).status_code == 303


async def test_an_operator_sees_all_and_the_cookie_is_for_this_browser_alone(board: Board) -> None:
    async with httpx.AsyncClient(base_url=board.url, trust_env=False, timeout=PATIENCE_S) as http:
        token = ISSUER.token(OPS_READ, sub="ann")
        answer = await enter(http, token, "/orders?status=CANCELED")

        assert answer.headers["location"] == "/orders?status=CANCELED"
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        assert token not in cookie
        async for _ in attempts("the numbers to come"):
            seen = words((await http.get("/")).text)
            if "1 dead letter" in seen:
                break
        page = await http.get("/orders")
        assert "ann, may only read" in page.text
        assert token not in page.text


async def test_signing_out_ends_the_session_and_what_is_open(board: Board) -> None:
    async with signed_in(board, OPS_READ) as http:
        cookies = dict(http.cookies)
        async with http.stream("GET", "/live", headers={"Accept": "text/event-stream"}) as events:
            lines = events.aiter_lines()
            await anext(lines)
            left = await http.post("/sign-out", data=fields((await http.get("/orders")).text))
            assert (left.status_code, left.headers["location"]) == (303, "/sign-in")
            async with asyncio.timeout(PATIENCE_S):
                async for _ in lines:  # it ends
                    pass
        http.cookies.update(cookies)
        assert (await http.get("/orders")).status_code == 303


async def test_a_session_and_what_is_open_end_with_the_token(board: Board) -> None:
    async with signed_in(board, OPS_READ, exp=int(time()) + 3) as http:
        cookies = dict(http.cookies)
        async with (
            http.stream("GET", "/live", headers={"Accept": "text/event-stream"}) as events,
            asyncio.timeout(PATIENCE_S),
        ):
            async for _ in events.aiter_lines():
                pass
        http.cookies.update(cookies)
        assert (await http.get("/orders")).status_code == 303


async def test_one_who_may_only_read_cannot_act(board: Board) -> None:
    async with signed_in(board, OPS_READ) as http:
        page = await http.get("/dead-letters")
        assert "<button disabled>Preview a redrive</button>" in page.text
        form = fields(page.text) | {"key": "point o1", "reason": "x", "operation": "a" * 16}
        for path in ("/dead-letters/preview", "/dead-letters/redrive", "/dead-letters/operations/x/stop"):
            answer = await http.post(path, data=form)
            assert (answer.status_code, "ops:redrive" in answer.text) == (403, True), path


async def test_a_redrive_is_done_with_the_operators_own_token_and_named(board: Board) -> None:
    """The dashboard's own token may only read, so with it nothing could be previewed."""
    async with signed_in(board, OPS_READ, OPS_REDRIVE) as http:
        listed = await http.get("/dead-letters")
        assert "<button>Preview a redrive</button>" in listed.text.replace("<button >", "<button>")
        keys = {"key": "product o1"} if 'value="product o1"' in listed.text else {"key": "coupon o1"}
        preview = await http.post("/dead-letters/preview", data={**fields(listed.text), **keys})
        assert "insufficient" not in preview.text.lower()
        assert preview.status_code == 200
        done = await http.post("/dead-letters/redrive", data={**fields(preview.text), "reason": "a try"})
        assert done.status_code == 303
        async for _ in attempts("the redrive to be over"):
            if "The redrive is over" in (await http.get(done.headers["location"])).text:
                break
    acted = [one for one in await told(board.shop, "operators") if one["action"] == "redrive"]
    assert [(one["who"], one["reason"]) for one in acted] == [("ann", "a try")]
    async for _ in attempts("the log to say who"):
        log = board.shop.log("dashboard").read_text()
        if "by=ann" in log:
            break
    assert ISSUER.token(OPS_READ).split(".")[0] not in log


async def test_a_form_of_another_page_signs_nobody_in(board: Board) -> None:
    token = ISSUER.token(OPS_READ)
    async with httpx.AsyncClient(base_url=board.url, trust_env=False, timeout=PATIENCE_S) as http:
        assert (await http.post("/sign-in", data={"own": token, "token": "guessed"})).status_code == 403
        form = fields((await http.get("/sign-in")).text) | {"own": token}
        answer = await http.post("/sign-in", data=form, headers={"Origin": "http://evil.example"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_tools_ask_with_a_token(board: Board) -> None:
    async for _ in attempts("the rates to be known"):
        answer = await board.get("/figures", Authorization=f"Bearer {ISSUER.token(OPS_READ)}")
        if answer.status_code == 200:
            break
    assert answer.json()["order"]
    assert (await board.get("/figures", Authorization=f"Bearer {ISSUER.token()}")).status_code == 403


@pytest.mark.parametrize(
    ("path", "led_to"),
    [
        ("/orders?status=PENDING&x=%20", "/orders?status=PENDING&x=%20"),
        ("/", "/"),
        ("", "/"),
        ("orders", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/sign-in?next=/", "/"),
        ("/sign-out", "/"),
        ("/" + "a" * 3_000, "/"),
        ("/é", "/"),
    ],
)
async def test_nobody_is_led_elsewhere(path: str, led_to: str) -> None:
    assert own_path(path) == led_to


class Words:
    """Knows tokens that say until when they are valid; others are refused."""

    trouble = None
    gone = False

    def known(self, token: str) -> Principal | None:
        return None

    async def verify(self, token: str) -> Principal:
        if self.gone:
            raise TokenRefused("unknown-key", "its key is gone")
        return Principal("ann", frozenset({OPS_READ}), float(token))


async def test_a_session_ends_when_the_tokens_key_is_taken_away_and_there_are_not_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MOST", 3)
    verifier, now = Words(), [0.0]
    known = Sessions(verifier, lambda: now[0])
    ones: list[Operator] = [known.begin(await known.verify(str(n))) for n in (10, 20, 30)]
    assert len({one.session for one in ones}) == 3

    now[0] = 11.0
    fourth = known.begin(await known.verify("40"))  # in place of the one that has expired
    assert [await known.get(one.session) is None for one in (*ones, fourth)] == [True, False, False, False]
    fifth = known.begin(await known.verify("50"))  # in place of the first
    assert [await known.get(one.session) is None for one in (*ones, fourth, fifth)] == [True, True, False, False, False]

    verifier.gone = True
    assert await known.get(fifth.session) is None
    verifier.gone = False
    assert await known.get(fifth.session) is None


async def test_without_keys_nobody_signs_in() -> None:
    assert sessions.may_act() is True
    assert cast(Any, sessions.OPERATOR.get()) is None


async def test_the_dashboard_of_an_open_system_has_no_door(open_all_day: Shop) -> None:
    board = Board(open_all_day)
    await board.start()

    assert (await board.get("/orders")).status_code == 200
    assert (await board.get("/sign-in")).status_code == 404
