"""What README.md says of the code is so: the flow, the settings, the requests, the problems."""

import ast
import os
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from coupon_svc.api import IssueCoupon
from infra.http.problems import HTTP_SLUGS
from infra.local.nats import nats_environment
from infra.local.services import service_names
from infra.process.service import Service
from infra.settings import load
from ops import flow
from ops.cli import Found
from order_svc.api import REASONS, PlaceOrder
from point_svc.api import ChargePoints
from product_svc.api import AddStock, RegisterProduct
from tests.docs.pages import README, ROOT, blocks, rows, section
from tests.shop import Shop

# Flow -----------------------------------------------------------------------------------------------------------------


def test_who_hears_and_says_what_is_what_the_code_says() -> None:
    found = flow.BLOCK.search(README.read_text(encoding="utf-8"))

    assert found is not None
    assert found[0] == flow.markdown(flow.parts()), "write it again: just docs"


def test_the_flow_is_written_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- flow:begin -->\nold\n<!-- flow:end -->\nafter\n")

    flow.write(page, "new \\1\n")

    assert page.read_text() == "before\n<!-- flow:begin -->\nnew \\1\n<!-- flow:end -->\nafter\n"


def test_a_page_without_the_markers_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")

    with pytest.raises(Found, match="flow:begin"):
        flow.write(page, "new\n")

    assert page.read_text() == "before\n"


# Settings -------------------------------------------------------------------------------------------------------------


def settings_of_the_code() -> dict[str, str]:
    """Every variable with its default, as the services and the bundled broker read them."""
    broker = {name: value.strip('"') for name, value in nats_environment({}).items()}
    assert int(broker["GOMAXPROCS"]) == max(1, (os.cpu_count() or 1) // 2)
    broker["GOMAXPROCS"] = "half of them"
    found = {name: value.removeprefix(f"{ROOT}/") for name, value in broker.items()}
    for name in service_names():
        service: Service = pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE")
        settings = load(service.settings, name, service.port, {})
        for field in service.settings.__struct_fields__:
            variable = f"{name}_port" if field == "port" else field
            found[variable.upper()] = default(getattr(settings, field))
    return found


def default(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or "unset"


def test_the_table_of_settings_has_every_variable_with_its_default() -> None:
    table = rows(section(README, "## Run it for real"))

    assert {cells[0].strip("`"): cells[1].strip("`") for cells in table} == settings_of_the_code()
    assert all(cells[3] for cells in table)


@pytest.mark.parametrize(("suffix", "unit"), [("_S", "seconds"), ("_BYTES", "bytes"), ("_PORT", "port")])
def test_a_setting_whose_name_ends_in_a_unit_has_it(suffix: str, unit: str) -> None:
    table = rows(section(README, "## Run it for real"))

    assert {cells[2] for cells in table if cells[0].strip("`").endswith(suffix)} == {unit}


# Requests -------------------------------------------------------------------------------------------------------------


class Curl(NamedTuple):
    """One curl command of the page, and the status that the comment above it promises."""

    status: int
    method: str
    url: str
    headers: dict[str, str]
    body: str | None


def curls() -> list[Curl]:
    """The commands of the section, in their order."""
    found: list[Curl] = []
    promised: list[int] = []
    for line in blocks(section(README, "## HTTP by curl"))[0].text.splitlines():
        if line.startswith("#"):
            assert not promised[1:], "a comment promised more statuses than there are commands"
            promised = [int(status) for status in re.findall(r"\b([2-5]\d\d):", line)]
        elif line:
            found.append(parsed(line, promised.pop(0) if len(promised) > 1 else promised[0]))
    return found


def parsed(line: str, status: int) -> Curl:
    program, *arguments = shlex.split(line)
    assert program == "curl"
    method, url, headers, body = "", "", {}, None
    words = iter(arguments)
    for word in words:
        match word:
            case "-s":
                pass
            case "-X":
                method = next(words)
            case "-d":
                body = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case _:
                url = word
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"  # what curl sends with -d
    return Curl(status, method or ("GET" if body is None else "POST"), url, headers, body)


BODIES: dict[str, type[msgspec.Struct]] = {
    r"8001/orders": PlaceOrder,
    r"8002/products": RegisterProduct,
    r"8002/products/[^/]+/stock": AddStock,
    r"8003/points/[^/]+/charge": ChargePoints,
    r"8004/coupons": IssueCoupon,
}


@pytest.mark.parametrize("curl", [curl for curl in curls() if curl.body is not None], ids=lambda curl: curl.url)
def test_a_body_in_the_page_is_one_that_the_api_takes(curl: Curl) -> None:
    (body,) = (kind for path, kind in BODIES.items() if re.fullmatch(f"localhost:{path}", curl.url))
    assert curl.body is not None

    msgspec.json.decode(curl.body, type=body)


@pytest.mark.asyncio(loop_scope="module")
async def test_every_curl_of_the_page_is_answered_as_it_says(open_all_day: Shop) -> None:
    ports = {str(8001 + number): name for number, name in enumerate(service_names())}
    for curl in curls():
        _, port, path = re.split(r"[:/]", curl.url, maxsplit=2)
        url = open_all_day.url(ports[port], f"/{path}")
        answer = await open_all_day.http.request(curl.method, url, content=curl.body, headers=curl.headers)
        assert answer.status_code == curl.status, f"{curl.method} {curl.url}: {answer.text}"


# Problems -------------------------------------------------------------------------------------------------------------


def problems_of_the_code() -> set[tuple[str, str]]:
    """Every (status, name) that a service may answer."""
    found = {(str(status), slug) for status, slug in HTTP_SLUGS.items()} | {("other", "http-error")}
    found |= {("409", reason) for reason in REASONS}
    return found | {
        (str(status), slug)
        for path in [*ROOT.glob("infra/**/*.py"), *ROOT.glob("*_svc/**/*.py")]
        for status, slug in constants(ast.parse(path.read_text(encoding="utf-8")))
    }


def constants(tree: ast.Module) -> Iterator[tuple[Any, str]]:
    """The first two arguments of every `Problem(...)` whose name is written there."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("Problem"), args=[ast.Constant(status), ast.Constant(str(slug)), *_]):
                yield status, slug


def test_the_table_of_problems_has_every_problem_there_is() -> None:
    table = rows(section(README, "### Problems"))

    found = {(cells[0], name) for cells in table for name in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", cells[1])}
    assert found - {("400", "errors")} == problems_of_the_code()
