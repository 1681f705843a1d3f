"""Clients are told what is wrong in plain words: nothing of Python, of its types or of the decoder."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import httpx
import msgspec
import pytest
from litestar import get, post
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from infra.http.app import build_app
from infra.http.idempotency_key import IdempotencyKey
from infra.http.parameters import After, Id, Name, PageSize, PathId, Price, QueryId, Time
from infra.http.wording import ANOTHER_FORM, NO_TIME, TYPES, in_words

LEAKS = re.compile(
    r"None|Expected|got `|`(?:str|int|float|array|object|datetime)`|regex|\\Z|\d\.0\b|RFC3339|enum|utf-8|codec"
)


class Part(Struct, forbid_unknown_fields=True):
    number: Price


class Thing(Struct, forbid_unknown_fields=True):
    id: Id | None = None
    price: Price = 1
    parts: Annotated[tuple[Part, ...], Meta(max_length=2)] = ()
    at: Time | None = None
    name: Name | None = None
    yes: bool = False
    weight: Annotated[float, Meta(ge=0)] = 1
    fields: Annotated[dict[str, int], Meta(max_length=1)] = {}


@post("/things")
async def make(data: JSONBody[Thing], key: IdempotencyKey = None) -> Thing:
    return data


@get("/things/{name:str}")
async def show(
    name: PathId,
    user: QueryId,
    limit: PageSize = 5,
    after: After = "",
    kind: Annotated[Literal["A", "B"] | None, QueryParameter()] = None,
) -> None: ...


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async def ready() -> list[str]:
        return []

    app: Any = build_app("test", [make, show], ready)
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers
    ) as client:
        yield client


BODIES = [
    b"", b"{", b"[]", b"null", b'"x"', b"1", b"\xff", b'{"id":"\xff"}', b'{"id":1}', b'{"id":"a b"}', b'{"price":0}',
    b'{"price":1.0}', b'{"price":1e3}', b'{"price":"1"}', b'{"price":null}', b'{"price":1' + b"0" * 400 + b"}",
    b'{"price":1e999}', b'{"parts":{}}', b'{"parts":[{}]}', b'{"parts":[{"number":1,"x":1}]}', b'{"parts":[1]}',
    b'{"parts":[{"number":1},{"number":1},{"number":1}]}', b'{"at":"x"}', b'{"at":"2020-01-01T00:00:00"}', b'{"at":1}',
    b'{"name":""}', b'{"name":"' + b"n" * 201 + b'"}', b'{"yes":0}', b'{"weight":-1}', b'{"fields":{"a":1,"b":2}}',
    b'{"x":1}', b'{"id":"a"} x', b"[" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_what_is_wrong_with_a_body_is_said_in_plain_words(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/things", content=body)

    assert answer.status_code == 400
    assert LEAKS.findall(answer.text) == []
    for error in answer.json().get("errors", ()):
        assert error["message"] != ANOTHER_FORM
        assert answer.json()["detail"] == f"{error['field']}: {error['message']}"


@pytest.mark.parametrize(
    "asked",
    ["a.b?user=u", "a", "a?user=", "a?user=u&limit=0", "a?user=u&limit=x", "a?user=u&limit=999", "a?user=u&after=a.b",
     "a?user=u&kind=C", "a?user=u&limit=1.5"],
)  # fmt: skip
async def test_what_is_wrong_with_a_parameter_is_said_in_plain_words(client: httpx.AsyncClient, asked: str) -> None:
    answer = await client.get(f"/things/{asked}")

    assert answer.status_code == 400
    assert LEAKS.findall(answer.text) == []
    assert ANOTHER_FORM not in answer.text


async def test_what_is_wrong_with_a_header_is_said_in_plain_words(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things", content=b"{}", headers={"Idempotency-Key": '"'})

    (error,) = answer.json()["errors"]
    assert error["field"] == "Idempotency-Key"
    assert '"basket-17"' in error["message"]


@pytest.mark.parametrize(
    "at", ["9999-12-31T23:59:59.9999999Z", "2016-12-31T23:59:60Z", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z"]
)
async def test_a_time_that_does_not_exist_is_not_said_to_lack_its_offset(client: httpx.AsyncClient, at: str) -> None:
    (error,) = (await client.post("/things", json={"at": at})).json()["errors"]

    assert error == {"field": "at", "source": "body", "message": NO_TIME}


async def test_a_time_is_rounded_to_microseconds(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things", json={"at": "2099-12-31T23:59:59.9999996Z"})

    assert answer.json()["at"] == "2100-01-01T00:00:00Z"


async def test_of_a_field_given_twice_the_last_value_counts(client: httpx.AsyncClient) -> None:
    assert (await client.post("/things", content=b'{"price":1,"price":2}')).json()["price"] == 2


@pytest.mark.parametrize("message", ["", "Expected something else", "Invalid UUID", "Invalid value 3"])
def test_a_message_that_is_not_known_is_not_shown(message: str) -> None:
    assert in_words(message) == ANOTHER_FORM


def test_every_type_of_json_has_a_word() -> None:
    values: list[object] = [None, True, 1, 1.5, "x", [], {}]
    for wanted in (str, int, float, bool, list, dict, None):
        for value in values:
            try:
                msgspec.convert(value, wanted)
            except msgspec.ValidationError as error:
                told = in_words(str(error))
                assert told.startswith("has to be")
                assert "another type" not in told
    assert all(word.isascii() for word in TYPES.values())
