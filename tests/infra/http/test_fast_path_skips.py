"""The fast path skips no check: a route with anything that it would skip cannot have one, and stops the start."""

import inspect
from typing import Annotated, Any

import httpx
import pytest
from litestar import Controller, Litestar, Request, Router, post
from litestar.background_tasks import BackgroundTask
from litestar.config.allowed_hosts import AllowedHostsConfig
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.config.csrf import CSRFConfig
from litestar.datastructures import CacheControlHeader, Cookie, ETag, ResponseHeader
from litestar.dto import MsgspecDTO
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter, JSONBody, MsgPackBody, QueryParameter
from litestar.response import Response
from msgspec import Struct

from infra.http import fast_path_skips
from infra.http.app import App, build_app
from infra.http.fast_path import FAST_PATH, FastPathRefused, fast_paths
from infra.http.parameters import HeaderCheck, StrictRequest
from infra.http.problems import EXCEPTION_HANDLERS, Problem

LAYERS = ("app", "router", "controller", "route")


class Thing(Struct):
    name: str


User = Annotated[str, HeaderParameter(name="X-User")]
Key = Annotated[str | None, HeaderParameter(name="X-Key", pattern="^[a-z]+$")]


async def make(data: JSONBody[Thing], key: Key = None) -> Response[Thing]:
    return Response(data)


async def make_of_controller(self: Any, data: JSONBody[Thing], key: Key = None) -> Response[Thing]:
    return Response(data)


def app_with(kind: type[Litestar] = Litestar, *, on: str = "route", fn: Any = None, **settings: Any) -> Litestar:
    """An app with POST /shop/things/new, that wants a fast path; `settings` are those of the layer `on`."""

    fn = fn or (make_of_controller if on == "controller" else make)
    of_route = post("/new", opt={FAST_PATH: True}, **(settings if on == "route" else {}))(fn)
    below: Any = of_route
    if on == "controller":
        below = type("Things", (Controller,), {"path": "/", "new": of_route, **settings})
    router = Router("/things", route_handlers=[below], **(settings if on == "router" else {}))
    of_app = {"request_class": StrictRequest, "exception_handlers": EXCEPTION_HANDLERS, "logging_config": None}
    return kind([Router("/shop", route_handlers=[router])], **{**of_app, **(settings if on == "app" else {})})


def refused(app: Litestar) -> str:
    with pytest.raises(FastPathRefused) as refusal:
        fast_paths(app)
    return str(refusal.value)


def deny(*_: Any) -> None:
    raise NotAuthorizedException


async def hook(*_: Any) -> None:
    pass


async def respond(response: Response[Any]) -> Response[Any]:
    return response


def middleware(app: Any) -> Any:
    return app


async def depend() -> int:
    return 1


SKIPPED: dict[str, Any] = {
    "after_request": respond,
    "after_response": hook,
    "before_request": hook,
    "cache_control": CacheControlHeader(no_store=True),
    "dependencies": {"number": depend},
    "dto": MsgspecDTO[Thing],
    "etag": ETag(value="1"),
    "guards": [deny],
    "middleware": [middleware],
    "parameters": {"page": QueryParameter(annotation=int, required=False)},
    "response_class": Response,
    "response_cookies": [Cookie("a")],
    "response_headers": [ResponseHeader(name="X-A", value="1")],
    "return_dto": MsgspecDTO[Thing],
}
"""A value for each setting that a fast path would skip on every layer."""


def test_a_route_without_anything_to_skip_gets_its_fast_path() -> None:
    assert list(fast_paths(app_with())) == [("POST", "/shop/things/new")]


@pytest.mark.parametrize(
    ("name", "layer"),
    [(name, layer) for name in SKIPPED for layer in LAYERS if (name, layer) != ("parameters", "route")],
)
def test_what_it_would_skip_on_any_layer_is_named(name: str, layer: str) -> None:
    why = refused(app_with(on=layer, **{name: SKIPPED[name]}))

    assert why.startswith("POST /shop/things/new cannot have a fast path, which would skip: ")
    assert name in why
    assert why.endswith("check the caller in a HeaderCheck as `before_request`.")


@pytest.mark.parametrize("layer", LAYERS[1:])
def test_exception_handlers_are_those_of_the_app(layer: str) -> None:
    assert "exception_handlers" in refused(app_with(on=layer, exception_handlers={ValueError: respond}))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_request_class_that_decodes_otherwise_is_refused(layer: str) -> None:
    assert "the request class" in refused(app_with(on=layer, request_class=Request))


@pytest.mark.parametrize("handlers", [{}, {**EXCEPTION_HANDLERS, 404: respond}], ids=["none", "by status"])
def test_exception_handlers_that_it_cannot_find_by_type_are_refused(handlers: Any) -> None:
    assert "exception handlers of the app" in refused(app_with(on="app", exception_handlers=handlers))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("after_exception", [hook]),
        ("allowed_hosts", AllowedHostsConfig(["shop.example"])),
        ("before_send", [hook]),
        ("compression_config", CompressionConfig(backend="gzip")),
        ("cors_config", CORSConfig()),
        ("csrf_config", CSRFConfig(secret="s")),
        ("request_max_body_size", None),
    ],
)
def test_what_it_would_skip_of_the_app_alone_is_refused(name: str, value: Any) -> None:
    assert refused(app_with(on="app", **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("background", BackgroundTask(hook)), ("cache", 60), ("cache_key_builder", str), ("media_type", "text/plain")],
)
def test_what_it_would_skip_of_the_route_alone_is_refused(name: str, value: Any) -> None:
    assert refused(app_with(**{name: value}))


async def no_data(key: Key = None) -> Response[Thing]:
    raise AssertionError


async def other_data(data: MsgPackBody[Thing]) -> Response[Thing]:
    return Response(data)


async def query(data: JSONBody[Thing], page: Annotated[str, QueryParameter()]) -> Response[Thing]:
    return Response(data)


async def request_too(data: JSONBody[Thing], request: Request[Any, Any, Any]) -> Response[Thing]:
    return Response(data)


async def number(data: JSONBody[Thing], n: Annotated[int | None, HeaderParameter()] = None) -> Response[Thing]:
    return Response(data)


async def default(data: JSONBody[Thing], key: Annotated[str | None, HeaderParameter()] = "k") -> Response[Thing]:
    return Response(data)


async def long(
    data: JSONBody[Thing], key: Annotated[str | None, HeaderParameter(max_length=1)] = None
) -> Response[Thing]:
    return Response(data)


async def unchecked(data: JSONBody[Thing], user: User) -> Response[Thing]:
    return Response(data)


async def plain(data: JSONBody[Thing]) -> Thing:
    return data


@pytest.mark.parametrize("fn", [no_data, other_data, query, request_too, number, default, long, unchecked, plain])
def test_a_handler_of_another_shape_is_refused(fn: Any) -> None:
    assert refused(app_with(fn=fn))


def test_a_synchronous_handler_and_a_path_with_parameters_are_refused() -> None:
    @post("/{number:int}", opt={FAST_PATH: True}, sync_to_thread=False)
    def make(data: JSONBody[Thing]) -> Response[Thing]:
        return Response(data)

    why = refused(Litestar([make], request_class=StrictRequest, exception_handlers=EXCEPTION_HANDLERS))

    assert "synchronous" in why
    assert "/{number:int}" in why


def test_the_start_fails_with_the_reason() -> None:
    @post("/things", opt={FAST_PATH: True}, guards=[deny])
    async def make(data: JSONBody[Thing]) -> Response[Thing]:
        return Response(data)

    async def ready() -> list[str]:
        return []

    with pytest.raises(FastPathRefused, match=r"POST /things cannot have a fast path, .* guards of the route"):
        build_app("test", [make], ready)


# A check of the caller ------------------------------------------------------------------------------------------------


def known(user: str | None) -> None:
    if user != "ann":
        raise Problem(401, "unauthorized", f"{user} is unknown", {"WWW-Authenticate": "X-User"})


async def who(data: JSONBody[Thing], user: User) -> Response[Thing]:
    return Response(Thing(f"{data.name} of {user}"))


async def who_of_controller(self: Any, data: JSONBody[Thing], user: User) -> Response[Thing]:
    return await who(data, user)


REQUESTS: dict[str, dict[str, Any]] = {
    "known": {"content": b'{"name":"mug"}', "headers": {"X-User": "ann"}},
    "unknown": {"content": b'{"name":"mug"}', "headers": {"X-User": "bob"}},
    "no name": {"content": b'{"name":"mug"}'},
    "unknown and a bad body": {"content": b"{", "headers": {"X-User": "bob"}},
    "unknown and no body": {"headers": {"X-User": "bob"}},
    "known and a bad body": {"content": b"{", "headers": {"X-User": "ann"}},
}
STATUSES = {"known": 201, "known and a bad body": 400}
"""The others: 401."""


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("request_name", REQUESTS)
async def test_a_header_check_on_any_layer_is_made_both_ways(layer: str, request_name: str) -> None:
    fn = who_of_controller if layer == "controller" else who
    answers = []
    for kind in (App, Litestar):
        app: Any = app_with(kind, on=layer, fn=fn, before_request=HeaderCheck("x-user", known))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            client.headers["Content-Type"] = "application/json"
            answer = await client.post("/shop/things/new", **REQUESTS[request_name])
            answers.append((answer.status_code, dict(answer.headers), answer.content))

    assert answers[0] == answers[1]
    assert answers[0][0] == STATUSES.get(request_name, 401)


def test_a_header_check_of_a_header_that_the_handler_does_not_take_is_refused() -> None:
    assert "the check of X-Other" in refused(app_with(before_request=HeaderCheck("X-Other", known)))


# Settings of a later version ------------------------------------------------------------------------------------------

USED_BOTH_WAYS = {
    "before_request", "exception_handlers", "opt", "path", "request_class", "request_max_body_size", "status_code",
    "media_type", "type_encoders", "http_method", "sync_to_thread", "route_handlers",
}  # fmt: skip
WITHOUT_EFFECT = {
    "type_decoders",  # a StrictRequest decodes without them, and headers are text
    # Documentation
    "content_encoding", "content_media_type", "deprecated", "description", "include_in_schema", "openapi_config",
    "operation_class", "operation_id", "raises", "response_description", "responses", "security", "summary", "tags",
    # The app's beginning and end, and what its handlers may use
    "event_emitter_backend", "experimental_features", "lifespan", "listeners", "logging_config", "on_app_init",
    "on_shutdown", "on_startup", "plugins", "state", "stores", "template_config", "debug", "pdb_on_exception",
    "debugger_module", "response_cache_config", "signature_namespace", "signature_types", "name", "kwargs",
    # Of other requests
    "multipart_form_part_limit", "static_files_config", "websocket_class",
}  # fmt: skip


@pytest.mark.parametrize("layer", [Litestar, Router, HTTPRouteHandler])
def test_every_setting_that_the_framework_has_is_judged(layer: type) -> None:
    refused = {
        *fast_path_skips.SKIPPED_ON_EVERY_LAYER,
        *fast_path_skips.SKIPPED_ON_THE_APP,
        *fast_path_skips.SKIPPED_BELOW_THE_APP,
        *fast_path_skips.SKIPPED_ON_THE_ROUTE,
    }

    settings = {*inspect.signature(layer).parameters}

    assert settings - refused - USED_BOTH_WAYS - WITHOUT_EFFECT == set()
