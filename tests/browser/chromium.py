"""A real headless Chromium, driven over its DevTools protocol through a pipe, so that no other library is needed."""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome", "google-chrome-stable")
PATIENCE_S = 60.0

OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # tests may run as root
    "--no-proxy-server",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    # A browser's own protection of the local network is new, not in all browsers, and a matter of a user's click: what
    # is tested is that the product needs none of it.
    "--disable-features=LocalNetworkAccessChecks,PrivateNetworkAccessSendPreflights,BlockInsecurePrivateNetworkRequests",
)


def program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class ScriptFailed(Exception):
    """A script in a page threw; the message is its error."""


class Chromium:
    """One page of a browser that runs as a child process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, str] = {}
        self._session: str | None = None
        self.loaded = asyncio.Event()
        self.requested: list[str] = []
        """The URLs of all requests that the page has made."""

    async def read(self) -> None:
        """Take what the browser says until it ends."""
        while True:
            try:
                message = msgspec.json.decode((await self._reader.readuntil(b"\0"))[:-1])
            except asyncio.IncompleteReadError:
                break
            if (number := message.get("id")) in self._answers:
                self._answers.pop(number).set_result(message)
            elif message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            elif message.get("method") == "Page.loadEventFired":
                self.loaded.set()
            elif message.get("method") == "Fetch.requestPaused":
                self._continue(message["params"])
        for answer in self._answers.values():
            answer.set_exception(ConnectionResetError("the browser has ended"))

    def _continue(self, paused: dict[str, Any]) -> None:
        """Answer a request from `pages`, or let it go on to the network."""
        page = self._pages.pop(paused["request"]["url"], None)
        if page is None:
            self._send("Fetch.continueRequest", {"requestId": paused["requestId"]})
        else:
            body = msgspec.json.decode(msgspec.json.encode(page.encode()))  # base64
            html = [{"name": "Content-Type", "value": "text/html"}]
            answer = {"requestId": paused["requestId"], "responseCode": 200, "responseHeaders": html, "body": body}
            self._send("Fetch.fulfillRequest", answer)

    def _send(self, method: str, params: dict[str, Any]) -> int:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._writer.write(msgspec.json.encode(message) + b"\0")
        return number

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol. Returns its result."""
        answer = self._answers[self._send(method, params)] = asyncio.get_running_loop().create_future()
        message = await asyncio.wait_for(answer, PATIENCE_S)
        assert "error" not in message, f"{method}: {message}"
        return dict(message["result"])

    async def open_page(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        self._session = (await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))[
            "sessionId"
        ]
        await self.call("Page.enable")
        await self.call("Network.enable")
        await self.call("Fetch.enable")

    async def visit(self, url: str, page: str | None = None) -> None:
        """Go to an address. With `page`, that is the HTML of it, as the first answer of a server that is gone then."""
        if page is not None:
            self._pages[url] = page
        self.loaded.clear()
        went = await self.call("Page.navigate", url=url)
        assert "errorText" not in went, went
        await asyncio.wait_for(self.loaded.wait(), PATIENCE_S)

    async def script(self, source: str) -> Any:
        """Run JavaScript in the page and wait for its promise. Raises ScriptFailed."""
        done = await self.call("Runtime.evaluate", expression=source, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise ScriptFailed(done["exceptionDetails"].get("exception", {}).get("description", done))
        return done["result"].get("value")


@contextlib.asynccontextmanager
async def chromium(folder: Path, hosts: str = "") -> AsyncIterator[Chromium]:
    """A browser with an empty profile in `folder`. `hosts`: its --host-resolver-rules, in place of a DNS."""
    command = program()
    assert command, f"no browser is installed; install one of {', '.join(PROGRAMS)}"
    into_browser, our_writer = os.pipe()
    our_reader, from_browser = os.pipe()
    # The browser reads from its file descriptor 3 and writes to 4.
    shell = f'exec "$@" 3<&{into_browser} 4>&{from_browser}'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", shell, "bash", command, *OPTIONS, f"--user-data-dir={folder}"),
        *([f"--host-resolver-rules={hosts}"] if hosts else []),
        pass_fds=(into_browser, from_browser),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # to end its own child processes, too
    )
    os.close(into_browser)
    os.close(from_browser)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    read_transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(our_reader, "rb")
    )
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(our_writer, "wb")
    )
    browser = Chromium(reader, asyncio.StreamWriter(transport, protocol, None, loop))
    reading = asyncio.create_task(browser.read())
    try:
        await browser.open_page()
        yield browser
    finally:
        reading.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        transport.close()
        read_transport.close()
