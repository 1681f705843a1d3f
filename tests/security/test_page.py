"""docs/security.md says who may do what as the services' documents have it."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.docs.pages import ROOT
from tests.issuer import Issuer
from tests.security.test_matrix import operations
from tests.shop import Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = ROOT / "docs" / "security.md"
BLOCK = re.compile(r"(?<=<!-- access:begin -->\n).*?(?=<!-- access:end -->)", re.DOTALL)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("secured")
    settings: dict[str, Any] = Issuer("EdDSA").settings(folder / "keys.json")
    async with open_shop(folder, **settings) as shop:
        yield shop


async def table(shop: Shop) -> str:
    who = {None: "everybody", "": "customers with a token"}
    lines: dict[tuple[str, str], dict[str, None]] = {}
    for one in await operations(shop):
        needs = who.get(one.needs) or f"`{one.needs}`"
        lines.setdefault((f"`{one.method} {one.path}`", needs), {})[one.service] = None
    services = dict.fromkeys(shop.services)
    rows = [
        f"| {route} | {'all' if found == services else ', '.join(found)} | {needs} |"
        for (route, needs), found in sorted(lines.items(), key=lambda row: (row[0][1], list(row[1]), row[0][0]))
    ]
    return "\n".join(["| route | services | who |", "| --- | --- | --- |", *rows]) + "\n"


async def test_the_page_says_who_may_do_what(secured: Shop) -> None:
    found = BLOCK.search(PAGE.read_text())

    assert found is not None
    assert found[0] == await table(secured)
