"""Every command of docs/operating.md on backup, restore, move, upgrade and roll-back works, in the page's order."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.readiness import why_not_ready
from infra.local.services import ROOT
from tests.docs.pages import blocks, section
from tests.ops.damage import rows
from tests.shop import Shop, attempts

PAGE = ROOT / "docs" / "operating.md"
PATIENCE_S = 120.0


def lines(heading: str) -> Iterator[tuple[str, str]]:
    """The commands of a section, each with the comment behind it."""
    for block in blocks(section(PAGE, heading)):
        for line in block.text.splitlines():
            command, _, comment = line.partition("  # ")
            yield command.strip(), comment


class Operator:
    """Somebody at a shell, on the machine whose data is the shop's; `/backups` is a folder of the test."""

    def __init__(self, shop: Shop, backups: Path) -> None:
        self.shop = shop
        self._backups = backups
        own = {name: value for name, value in os.environ.items() if not name.startswith("NATS_")}
        self._env = {**own, **shop.env, "COLUMNS": "160"}
        self._up: subprocess.Popen[bytes] | None = None

    async def does(self, command: str, *, fails: str = "") -> str:
        """Run one command; `fails`: what it then says. `just up` is left running, once all is ready."""
        command = command.replace("/backups", str(self._backups))
        if command == "just up":
            await self._start()
            return ""
        done = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", command],
            cwd=ROOT,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert (done.returncode != 0) == bool(fails), done.stdout + done.stderr
        assert fails in done.stderr
        return str(done.stdout)

    async def _start(self) -> None:
        self._up = up = await asyncio.to_thread(
            lambda: subprocess.Popen(
                ["just", "up"], cwd=ROOT, env=self._env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
        async for _ in attempts("everything to be ready", PATIENCE_S):
            assert up.poll() is None
            urls = [self.shop.url(name, "") for name in self.shop.services]
            if not any([await asyncio.to_thread(why_not_ready, url) for url in urls]):
                return

    async def stops(self) -> None:
        if self._up is not None:
            self._up.terminate()
            await asyncio.to_thread(self._up.wait, PATIENCE_S)
            self._up = None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("old", "new", "backups"):
        (tmp_path / name).mkdir()
    return tmp_path


async def trade(shop: Shop, key: str) -> None:
    await shop.register(key)
    await shop.charge(key, 100)
    for n in range(3):
        assert (await shop.place([(key, 1)], user=key, points=10, key=str(n))).status_code == 200
    await shop.until_quiet()


async def test_every_command_of_the_page_works(folder: Path) -> None:
    shop, other = Shop(folder / "old"), Shop(folder / "new")
    old, new = Operator(shop, folder / "backups"), Operator(other, folder / "backups")
    try:
        await old.does("just up")
        await trade(shop, "first")
        backed_up = {name: rows(shop, name) for name in shop.services}
        for command, _ in lines("## Back up"):
            assert "the backup is in" in await old.does(command)
        await trade(shop, "second")

        restoring = list(lines("## Restore"))
        await old.does(restoring[1][0], fails="stop")
        await old.stops()
        for command, comment in restoring:
            refused = comment.startswith("refused")
            said = await old.does(command, fails="has data already" if refused else "")
            if "--yes" in command:
                assert "replaced-" in said
                assert {name: rows(shop, name) for name in shop.services} == backed_up
            assert "just audit" not in command or "good: nothing was found" in said
        await trade(shop, "third")
        await old.stops()

        for command, comment in lines("## Move to another machine"):
            operator = old if comment == "on the old machine" else new
            said = await operator.does(command)
            assert "just audit" not in command or "good: nothing was found" in said
        assert {name: rows(other, name) for name in other.services} == {n: rows(shop, n) for n in shop.services}

        upgrading = list(lines("## Upgrade, and roll back"))
        before = {name: rows(other, name) for name in other.services}
        for command, _ in upgrading[:2]:
            await new.does(command)
        await trade(other, "fourth")
        await new.stops()
        for command, _ in upgrading[2:]:
            await new.does(command)
        assert {name: rows(other, name) for name in other.services} == before
        await trade(other, "fifth")
    finally:
        await old.stops()
        await new.stops()
        await shop.close()
        await other.close()


@pytest.mark.parametrize(
    ("words", "module"),
    [
        ("the broker's store was lost or is new; publishing the whole log again", "infra/broker/resume.py"),
        ("it takes the connection, but says nothing within", "infra/broker/troubles.py"),
        ("the relay has not caught up with the log", "infra/consuming/session.py"),
        ("the broker is not acknowledging facts", "infra/consuming/session.py"),
        ("exists with settings that the guarantees exclude", "infra/broker/streams.py"),
    ],
)
def test_what_the_page_quotes_is_what_the_code_says(words: str, module: str) -> None:
    assert words in (ROOT / "docs" / "operating.md").read_text()
    assert words in (ROOT / module).read_text()
