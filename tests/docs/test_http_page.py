"""The requests of README.md and docs/http.md are answered as they promise, and the table of problems is the code's."""

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from contracts import REASONS
from coupon_svc.api import IssueCoupon
from infra.http.problems import HTTP_SLUGS
from infra.local.services import service_names
from order_svc.api import PlaceOrder
from point_svc.api import ChargePoints
from product_svc.api import AddedStock, RegisterProduct
from tests.docs.pages import README, ROOT, blocks, rows, section
from tests.shop import Shop

HTTP = ROOT / "docs" / "http.md"
SECTIONS = [section(README, "## Five requests"), section(HTTP, "## Requests")]

# Requests -------------------------------------------------------------------------------------------------------------


class Curl(NamedTuple):
    """One curl command of the page, and the status that the comment above it promises."""

    status: int
    method: str
    url: str
    headers: dict[str, str]
    body: str | None


def curls(text: str) -> list[Curl]:
    """The requests of a section, in their order."""
    found: list[Curl] = []
    promised: list[int] = []
    for line in blocks(text)[0].text.splitlines():
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
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")  # what curl sends with -d
    return Curl(status, method or ("GET" if body is None else "POST"), url, headers, body)


BODIES: dict[str, type[msgspec.Struct]] = {
    r"8001/orders": PlaceOrder,
    r"8002/products": RegisterProduct,
    r"8002/products/[^/]+/stock": AddedStock,
    r"8003/points/[^/]+/charge": ChargePoints,
    r"8004/coupons": IssueCoupon,
}


@pytest.mark.parametrize(
    "curl", [curl for text in SECTIONS for curl in curls(text) if curl.body is not None], ids=lambda curl: curl.url
)
def test_a_body_in_a_page_is_one_that_the_api_takes(curl: Curl) -> None:
    (body,) = (kind for path, kind in BODIES.items() if re.fullmatch(f"localhost:{path}", curl.url))
    assert curl.body is not None

    msgspec.json.decode(curl.body, type=body)


@pytest.mark.parametrize("text", SECTIONS, ids=["README", "http"])
async def test_every_curl_of_a_page_has_the_status_that_its_comment_promises(text: str, shop: Shop) -> None:
    ports = {str(8001 + number): name for number, name in enumerate(service_names())}
    for curl in curls(text):
        _, port, path = re.split(r"[:/]", curl.url, maxsplit=2)
        url = shop.url(ports[port], f"/{path}")
        answer = await shop.http.request(curl.method, url, content=curl.body, headers=curl.headers)
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
    table = rows(section(HTTP, "## Problems"))

    found = {(cells[0], name) for cells in table for name in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", cells[1])}
    assert found - {("400", "errors")} == problems_of_the_code()
