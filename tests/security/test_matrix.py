"""Every route of every service, as its document lists them, asked with every kind of token."""

import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from time import time
from typing import Any, Final, NamedTuple

import httpx
import pytest
import pytest_asyncio

from infra.local.services import service_names
from tests.issuer import Issuer, new_key
from tests.shop import Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPES: Final = ("products:write", "coupons:issue", "points:charge", "ops:read", "ops:redrive")
OWNER, OTHER, OPERATOR = "owner", "stranger", "operator"
ISSUER: Final = Issuer()
STRANGE: Final = Issuer()
PROBLEM: Final = "application/problem+json"

_numbers = itertools.count(1)


class Operation(NamedTuple):
    """One method of one route of a service, as its document has it."""

    service: str
    method: str
    path: str
    security: list[dict[str, list[str]]]
    body: Any

    @property
    def needs(self) -> str | None:
        """The scope that it needs; empty: any valid token; None: no token at all."""
        (needed,) = self.security
        return next(iter(needed["token"]), "") if needed else None

    def __str__(self) -> str:
        return f"{self.method} {self.path} of {self.service}_svc"


def refused_tokens() -> dict[str, Callable[[], str | None]]:
    """Tokens that no route takes, all but the first with every scope: by what is wrong with them."""
    every = " ".join(SCOPES)
    return {
        "no token": lambda: None,
        "garbage": lambda: "garbage",
        "expired": lambda: ISSUER.token(sub=OWNER, scope=every, iat=int(time()) - 900, exp=int(time()) - 300),
        "not yet valid": lambda: ISSUER.token(sub=OWNER, scope=every, nbf=int(time()) + 300),
        "wrong audience": lambda: ISSUER.token(sub=OWNER, scope=every, aud="another shop"),
        "wrong issuer": lambda: ISSUER.token(sub=OWNER, scope=every, iss="https://other.example"),
        "alg=none": lambda: ISSUER.unsigned(sub=OWNER, scope=every),
        "HS256 with the public key": lambda: ISSUER.by_public_key(sub=OWNER, scope=every),
        "unknown key id": lambda: ISSUER.token(sub=OWNER, scope=every, header={"kid": "new"}),
        "key of another algorithm": lambda: ISSUER.token(sub=OWNER, scope=every, header={"kid": "ES256"}),
        "signed by another issuer": lambda: STRANGE.token(sub=OWNER, scope=every),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("secured")
    async with open_shop(folder, **ISSUER.settings(folder / "keys.json")) as shop:
        yield shop


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


async def operations(shop: Shop) -> list[Operation]:
    found = []
    for service in service_names():
        document = (await shop.get(service, "/schema/openapi.json")).json()
        for path, methods in document["paths"].items():
            for method, one in methods.items():
                body = None
                if "requestBody" in one:
                    (content,) = one["requestBody"]["content"].values()
                    body = next(iter(content["examples"].values()))["value"]
                found.append(Operation(service, method.upper(), path, one.get("security", []), body))
    assert len(found) >= 30
    return found


async def ask(
    shop: Shop, one: Operation, token: str | None, ids: Mapping[str, str], user: str = OWNER
) -> httpx.Response:
    """Send a request that is right but for its token; a header names the owner as well."""
    path = one.path.format_map(ids)
    if one.path == "/coupons" and one.method == "GET":
        path += f"?user_id={ids['user_id']}"
    headers = {**bearer(token), "X-User-Id": user, "Idempotency-Key": f"k{next(_numbers)}"}
    if one.body is None:
        return await shop.http.request(one.method, shop.url(one.service, path), headers=headers)
    return await shop.http.request(one.method, shop.url(one.service, path), headers=headers, json=one.body)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owned(secured: Shop) -> dict[str, str]:
    """The ids of what the owner has: an order, points, a coupon; and of a product and a read model."""
    operator = bearer(ISSUER.token(*SCOPES, sub=OPERATOR))
    json = {"Content-Type": "application/json"}

    async def post(service: str, path: str, body: Any, headers: Mapping[str, str]) -> dict[str, Any]:
        answer = await secured.http.post(secured.url(service, path), json=body, headers={**json, **headers})
        assert answer.is_success, answer.text
        return dict(answer.json())

    product = {"product_id": "cup", "name": "Cup", "price": 100, "stock": 1_000}
    await post("product", "/products", product, operator)
    await post("point", f"/points/{OWNER}/charge", {"amount": 50}, {**operator, "Idempotency-Key": "first"})
    coupon = {"coupon_id": "gift", "user_id": OWNER, "discount": 10, "expires_at": "2099-01-01T00:00:00Z"}
    await post("coupon", "/coupons", coupon, operator)
    body = {"lines": [{"product_id": "cup", "quantity": 1}], "points": 5, "coupon_id": "gift"}
    placed = await post("order", "/orders", body, bearer(ISSUER.token(sub=OWNER)))
    return {"order_id": placed["order_id"], "user_id": OWNER, "coupon_id": "gift", "product_id": "cup", "name": "list"}


async def test_a_refused_token_opens_nothing(secured: Shop, owned: dict[str, str]) -> None:
    for one in await operations(secured):
        for kind, token in refused_tokens().items():
            answer = await ask(secured, one, token(), owned)
            if one.needs is None:
                assert answer.status_code == 200, (kind, str(one))
                continue
            assert (answer.status_code, answer.headers["Content-Type"]) == (401, PROBLEM), (kind, str(one))
            assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="api"'), (kind, str(one))
            assert not any(owned[name] in answer.text for name in ("order_id", "coupon_id")), (kind, str(one))


async def test_a_scope_opens_what_needs_it_and_nothing_else_does(secured: Shop, owned: dict[str, str]) -> None:
    scoped = [one for one in await operations(secured) if one.needs]
    assert {one.needs for one in scoped} == set(SCOPES)

    for one in scoped:
        without = [scope for scope in SCOPES if scope != one.needs]
        for token in (ISSUER.token(sub=OWNER), ISSUER.token(*without, sub=OPERATOR)):
            answer = await ask(secured, one, token, owned)
            assert (answer.status_code, answer.headers["Content-Type"]) == (403, PROBLEM), str(one)
            assert f'scope="{one.needs}"' in answer.headers["WWW-Authenticate"], str(one)
        assert one.needs is not None
        answer = await ask(secured, one, ISSUER.token(one.needs, sub=OPERATOR), owned)
        assert answer.status_code not in (401, 403), str(one)
        assert answer.status_code < 500, (str(one), answer.text)


@pytest.mark.parametrize("key", ["EdDSA", "ES256", "RS256"])
async def test_a_valid_token_opens_what_is_for_all(secured: Shop, owned: dict[str, str], key: str) -> None:
    for one in await operations(secured):
        if one.needs == "":
            answer = await ask(secured, one, ISSUER.token(key=key, sub=OWNER), owned, user=OTHER)
            assert answer.status_code not in (401, 403, 404), (str(one), answer.text)
            assert answer.status_code < 500, (str(one), answer.text)


def _is_somebodys(one: Operation) -> bool:
    """Whether it is about what a customer has, and not about what all may see."""
    return any(f"{{{name}}}" in one.path for name in ("order_id", "user_id", "coupon_id")) or one.path == "/coupons"


async def test_somebody_elses_is_as_unknown(secured: Shop, owned: dict[str, str]) -> None:
    """404 with the body of what is not there, whatever the header X-User-Id says; operators who read see it."""
    stranger = ISSUER.token(sub=OTHER)
    unknown = {"order_id": "0" * 32, "user_id": "nobody", "coupon_id": "none", "product_id": "cup", "name": "list"}
    asked = [one for one in await operations(secured) if one.needs == "" and _is_somebodys(one)]
    assert {one.service for one in asked} == {"order", "point", "coupon"}
    assert len(asked) >= 5

    for one in asked:
        answer = await ask(secured, one, stranger, owned)
        missing = await ask(secured, one, stranger, unknown)
        assert (answer.status_code, missing.status_code) == (404, 404), str(one)
        assert answer.content == missing.content, str(one)
        assert dict(answer.headers) == dict(missing.headers), str(one)


async def test_a_list_has_the_callers_own_alone(secured: Shop, owned: dict[str, str]) -> None:
    async def orders(subject: str) -> list[str]:
        answer = await secured.http.get(
            secured.url("order", "/orders"), headers={**bearer(ISSUER.token(sub=subject)), "X-User-Id": OWNER}
        )
        return [one["order_id"] for one in answer.json()["orders"]]

    assert owned["order_id"] in await orders(OWNER)
    assert await orders(OTHER) == []


async def test_operators_who_read_see_what_customers_have(secured: Shop, owned: dict[str, str]) -> None:
    operator = bearer(ISSUER.token("ops:read", sub=OPERATOR))

    points = await secured.http.get(secured.url("point", f"/points/{OWNER}"), headers=operator)
    coupons = await secured.http.get(secured.url("coupon", f"/coupons?user_id={OWNER}"), headers=operator)

    order = await secured.http.get(secured.url("order", f"/orders/{owned['order_id']}"), headers=operator)
    assert order.json()["order_id"] == owned["order_id"]
    assert points.json()["balance"] >= 45
    assert [one["coupon_id"] for one in coupons.json()["coupons"]][-1:] == ["gift"]


async def test_a_new_key_is_taken_and_an_old_one_refused_while_orders_flow(
    secured: Shop, owned: dict[str, str]
) -> None:
    """How an issuer's key is rotated: both keys, then the new one alone; no order fails meanwhile."""
    old = ISSUER
    path = Path(secured.env["AUTH_KEYS"])
    body = {"lines": [{"product_id": "cup", "quantity": 1}]}

    async def place(issuer: Issuer, key: str) -> int:
        headers = bearer(issuer.token(key=key, sub=OWNER, header={"kid": key}))
        answer = await secured.http.post(secured.url("order", "/orders"), json=body, headers=headers)
        return answer.status_code

    both = Issuer("EdDSA")
    both.keys = {**old.keys, "ES256": new_key("ES256")}
    try:
        both.publish(path)
        placed = [await place(old, "EdDSA") for _ in range(5)]
        while (status := await place(both, "ES256")) == 401:  # until the file was looked at again
            placed.append(await place(old, "EdDSA"))
        assert {status, *placed} == {200}

        both.keys.pop("EdDSA")
        both.publish(path)
        while (status := await place(old, "EdDSA")) == 200:
            assert await place(both, "ES256") == 200
        assert status == 401
        assert await place(both, "ES256") == 200
    finally:
        old.publish(path)


async def test_in_the_open_mode_tokens_change_nothing(open_all_day: Shop) -> None:
    """The same requests, without keys: no token opens or closes anything."""
    ids = {"order_id": "0" * 32, "user_id": OWNER, "coupon_id": "none", "product_id": "cup", "name": "list"}
    for one in await operations(open_all_day):
        assert one.security == [], str(one)
        without = await ask(open_all_day, one, None, ids)
        for kind in ("garbage", "alg=none", "expired"):
            answer = await ask(open_all_day, one, refused_tokens()[kind](), ids)
            # What makes something is answered 201 once, then 200.
            assert {answer.status_code, without.status_code} in ({without.status_code}, {200, 201}), (kind, str(one))
            assert answer.status_code < 500, str(one)
