"""Requests are counted by method, route and status, on both ways; no client makes the series grow."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody

from infra.http.durations import MOST_OWN, RequestDurations
from infra.http.fast_path import FAST_PATH
from infra.metrics import Metrics
from tests.infra.http.wire import answers, serving
from tests.metrics import exposed, samples, series, value

NAME = "http_server_request_duration_seconds_count"


@post("/things", tags=["things"], status_code=200, opt={FAST_PATH: True})
async def make(data: JSONBody[dict[str, int]]) -> Response[dict[str, int]]:
    headers = {"X-Kind": "\n"} if data.get("broken") else {}
    return Response(data, status_code=data.get("status", 200), headers=headers)


@get("/things/{name:str}", tags=["things"])
async def show(name: FromPath[str]) -> str:
    return name


@get("/ops/things", tags=["operators"])
async def operate() -> str:
    return "done"


def request(line: str, body: bytes = b"") -> bytes:
    head = f"{line} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def counted(text: str, method: str, route: str, status: str) -> float:
    return value(text, NAME, http_request_method=method, http_route=route, http_response_status_code=status)


async def test_requests_of_the_fast_path_and_of_the_framework_are_counted_by_their_route() -> None:
    metrics = Metrics()
    async with serving(make, show, operate, durations=RequestDurations(metrics)) as port:
        for said in (
            request("POST /things", b'{"status": 200}'),
            request("POST /things", b'{"status": 503}'),
            request("POST /things", b'{"status": '),
            request("GET /things/a"),
            request("GET /things/b?x=1"),
            request("GET /ops/things"),
            request("GET /healthz"),
            request("GET /nowhere/x"),
            request("BREW /things/x"),
        ):
            await answers(port, said)

    text = exposed(metrics)
    assert counted(text, "POST", "/things", "200") == 1
    assert counted(text, "POST", "/things", "503") == 1
    assert counted(text, "GET", "/things/{name}", "200") == 2
    assert counted(text, "_OTHER", "other", "4xx") + counted(text, "_OTHER", "unmatched", "4xx") == 3
    assert value(text, NAME) == 7  # without those for operators


async def test_no_client_makes_the_series_grow() -> None:
    metrics = Metrics()
    durations = RequestDurations(metrics)
    durations.routes = {f"/{n}" for n in range(50)}

    def ask(method: str, found: dict[str, str], status: int) -> None:
        scope: Any = {"method": method, "state": {"began": 0.0, "status": status}, **found}
        durations.observe(scope, "unmatched")

    for n in range(1_000):
        for status in (200, 400, 404, 500):
            ask("GET", {"path_template": f"/{n % 50}"}, status)
        ask(f"M{n}", {}, 404)

    text = exposed(metrics)
    assert len({labels for name, labels in series(text) if name == NAME}) == MOST_OWN + 4
    assert value(text, NAME) == 5_000
    errors = [
        one for one in samples(text) if one.name == NAME and ("http_response_status_code", "4xx") not in one.labels
    ]
    assert sum(one.value for one in errors) == 2_000  # what goes wrong is seen, wherever it is counted


async def test_an_error_that_the_server_answers_for_the_app_is_counted() -> None:
    metrics = Metrics()
    async with serving(make, durations=RequestDurations(metrics)) as port:
        ((status, _, _),) = await answers(port, request("POST /things", b'{"broken": 1}'))

    assert b" 500 " in status
    assert counted(exposed(metrics), "POST", "/things", "500") == 1


async def test_refusals_for_who_sends_a_request_are_counted() -> None:
    metrics = Metrics()
    async with serving(show, durations=RequestDurations(metrics)) as port:
        await answers(port, request("GET /things/a").replace(b"Host: test", b"Host: elsewhere"))

    text = exposed(metrics)
    assert value(text, "saga_auth_rejections_total", reason="other-host") == 1
    assert value(text, "saga_auth_rejections_total", reason="unauthenticated") == 0
