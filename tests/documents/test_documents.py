"""The documents that services publish are right for validators, code generators and test generators."""

import asyncio
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import validate

from infra.local.services import ROOT, service_names
from tests.shop import PATIENCE_S, Shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES = 2_000
"""So many requests are made of each document, at least."""

CONFIG = Path(__file__).parent / "schemathesis.toml"
on_every_service = pytest.mark.parametrize("service", service_names())


async def document_of(shop: Shop, service: str) -> dict[str, Any]:
    answer = await shop.get(service, "/schema/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every JSON body of the document, both ways, with its place."""
    for name, operation in operations(document):
        holders = {"body": operation.get("requestBody", {}), **operation["responses"]}
        for place, holder in holders.items():
            for kind, content in holder.get("content", {}).items():
                if kind.endswith("json"):
                    yield f"{name} {place}", content


@on_every_service
async def test_the_document_is_valid(open_all_day: Shop, service: str) -> None:
    validate(await document_of(open_all_day, service))


@on_every_service
async def test_every_body_has_an_example_that_its_schema_allows(open_all_day: Shop, service: str) -> None:
    document = await document_of(open_all_day, service)

    for place, content in contents(document):
        assert content.get("examples"), place
        schema = {**content["schema"], "components": document["components"]}
        for example in content["examples"].values():
            jsonschema.validate(example["value"], schema, jsonschema.Draft202012Validator)


@on_every_service
async def test_the_document_says_what_services_do(open_all_day: Shop, service: str) -> None:
    """No extra fields where none are taken, the answers that every route may give, the headers of answers."""
    document = await document_of(open_all_day, service)

    for name, operation in operations(document):
        responses = operation["responses"]
        assert {"403", "421", "500"} <= set(responses), name
        if body := operation.get("requestBody"):
            assert {"400", "413", "415"} <= set(responses), name
            (content,) = body["content"].values()
            schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            assert schema["additionalProperties"] is False, name
        for status, response in responses.items():
            assert response["description"]
            if status in ("503", "401"):
                assert {"503": "Retry-After", "401": "WWW-Authenticate"}[status] in response["headers"]
    text = msgspec.json.encode(document).decode()
    assert [leak for leak in ("None", "\\\\Z", "(?P<", "msgspec", ".0,", ".0}") if leak in text] == []


async def test_an_order_that_is_pending_has_its_place(open_all_day: Shop) -> None:
    document = await document_of(open_all_day, "order")

    responses = document["paths"]["/orders"]["post"]["responses"]
    assert set(responses["202"]["headers"]) == {"Location", "Idempotency-Key", "Idempotent-Replayed"}
    assert len(responses["409"]["content"]["application/problem+json"]["examples"]) == 10


@pytest.mark.parametrize(("service", "path"), [("product", "/products"), ("coupon", "/coupons")])
async def test_what_exists_already_is_documented(open_all_day: Shop, service: str, path: str) -> None:
    responses = (await document_of(open_all_day, service))["paths"][path]["post"]["responses"]

    assert {"200", "201", "409"} <= set(responses)


async def test_the_key_that_a_charge_needs_is_required(open_all_day: Shop) -> None:
    document = await document_of(open_all_day, "point")

    (key,) = (
        one
        for one in document["paths"]["/points/{user_id}/charge"]["post"]["parameters"]
        if one["name"] == "Idempotency-Key"
    )
    assert key["required"] is True


@on_every_service
async def test_what_the_document_allows_is_taken_and_nothing_else(
    open_all_day: Shop, service: str, tmp_path: Path
) -> None:
    """Generated requests, allowed ones and others, to the running service."""
    await open_all_day.register("mug", stock=1_000)
    url = open_all_day.url(service, "/schema/openapi.json")

    told, code = await run("schemathesis.cli", f"--config-file={CONFIG}", "run", url, "--no-color", cwd=tmp_path)

    assert code == 0, told
    generated = re.search(r"(\d+) generated, \1 passed", told)
    assert generated is not None, told
    assert int(generated[1]) >= CASES


async def test_a_generated_client_places_an_order(open_all_day: Shop, tmp_path: Path) -> None:
    await open_all_day.register("pen", price=12_000, stock=1_000)
    document = tmp_path / "order.json"
    document.write_bytes((await open_all_day.get("order", "/schema/openapi.json")).content)

    told, code = await run(
        "openapi_python_client", "generate", f"--path={document}", f"--output-path={tmp_path / 'made'}",
        "--meta=none", "--fail-on-warning", cwd=tmp_path,
    )  # fmt: skip
    assert code == 0, told

    made = imported(tmp_path / "made", "order_client")
    place = importlib.import_module("order_client.api.orders.orders_place")
    models = importlib.import_module("order_client.models")
    line = models.OrderLine(product_id="pen", quantity=2)
    with made.Client(base_url=open_all_day.url("order", ""), httpx_args={"trust_env": False}) as client:
        order = await asyncio.to_thread(
            place.sync, client=client, body=models.PlaceOrder(lines=[line]), x_user_id="u1", idempotency_key='"made"'
        )
    assert isinstance(order, models.OrderView)
    assert (order.status, order.total) == ("CONFIRMED", 24_000)
    assert (await open_all_day.order(order.order_id))["status"] == "CONFIRMED"


async def run(module: str, *arguments: str, cwd: Path) -> tuple[str, int]:
    """Run a Python module as a program. Returns its output and exit code."""
    paths = os.pathsep.join((str(ROOT), str(Path(sys.executable).parent)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=cwd,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.documents.hooks",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{paths}{os.pathsep}{os.environ['PATH']}",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await asyncio.wait_for(process.communicate(), 10 * PATIENCE_S)
    assert process.returncode is not None
    return told.decode(), process.returncode


def imported(folder: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
