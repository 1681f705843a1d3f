"""A dashboard on a shop, as a browser or a person without one uses it."""

import contextlib
import re
from collections.abc import AsyncGenerator
from html import unescape

import httpx

from infra.local.ports import free_ports
from tests.shop import Shop, attempts


class Board:
    """A running dashboard; `url` is its address."""

    def __init__(self, shop: Shop) -> None:
        """The port is chosen only now: another process may have taken what was free when the shop was made."""
        self.shop = shop
        shop.env["DASHBOARD_PORT"] = str(free_ports(1)[0])
        self.url = f"http://127.0.0.1:{shop.env['DASHBOARD_PORT']}"

    async def start(self) -> None:
        self.shop.processes["dashboard"] = self.shop.launch("dashboard", "ops.dashboard")
        async for _ in attempts("the dashboard to answer"):
            assert self.shop.processes["dashboard"].poll() is None, self.shop.log("dashboard").read_text()
            with contextlib.suppress(httpx.TransportError):
                if (await self.get("/healthz")).status_code == 200:
                    return

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.shop.http.get(f"{self.url}{path}", headers=headers)

    async def text(self, path: str, status: int = 200) -> str:
        """The text of a page, as a person reads it: without markup, blanks as one."""
        answer = await self.get(path)
        assert answer.status_code == status, answer.text
        return words(answer.text)

    async def sentence(self) -> str:
        """The sentence of health on the first screen, without its sign; empty before the first numbers."""
        found = re.search(
            r'<h1 id="sentence" class[^>]*>\s*<span.*?</span>(.*?)</h1>', (await self.get("/")).text, re.DOTALL
        )
        return words(found[1]) if found else ""

    async def until(self, path: str, text: str) -> str:
        """The text of a page once it has this in it."""
        async for _ in attempts(f"{text!r} on {path}"):
            found = words((await self.get(path)).text)
            if text in found:
                return found
        raise AssertionError

    async def events(self, path: str, last: int | None = None) -> AsyncGenerator[tuple[int, str, str]]:
        """The server-sent events of an address, each as (id, name, data)."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        async with self.shop.http.stream("GET", f"{self.url}{path}", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream"), answer
            fields: dict[str, list[str]] = {}
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if name:
                    fields.setdefault(name, []).append(value)
                elif "data" in fields:
                    yield int(fields["id"][0]), fields.get("event", [""])[0], "\n".join(fields["data"])
                    fields = {}


def words(html: str) -> str:
    """The text in a piece of HTML, its blanks as one."""
    body = html.partition("<main")[2] or html
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())
