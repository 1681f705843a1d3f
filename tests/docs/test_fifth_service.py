"""The README's fifth service, written as it stands there into a copy of the system, takes part in it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.services import service_names
from tests.docs.pages import README, ROOT, Block, blocks, section
from tests.shop import Shop, attempts, open_shop

EXAMPLE = [block for block in blocks(section(README, "## Add a fifth service")) if block.path]


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A copy of all product code, with the README's files in it."""
    copy = tmp_path / "system"
    for folder in ("contracts", "infra", "ops", *(f"{name}_svc" for name in service_names())):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for block in EXAMPLE:
        path = copy / block.path
        path.parent.mkdir(exist_ok=True)
        path.write_text(patched(path.read_text(), block) if block.language == "diff" else block.text)
    return copy


def patched(text: str, diff: Block) -> str:
    """The text with the hunks of a diff applied, each in the only place where it fits."""
    for hunk in diff.text.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"this must stand in {diff.path} once:\n{old}"
        text = text.replace(old, new)
    return text


def test_it_needs_its_own_folder_and_its_facts_and_nothing_else() -> None:
    changed = [block.path for block in EXAMPLE if block.language == "diff"]
    new = [block.path for block in EXAMPLE if block.language != "diff"]

    assert changed == ["contracts/wire.py"]
    assert [path for path in new if not path.startswith("gift_svc/")] == ["contracts/gift.py"]
    assert [path for path in new if (ROOT / path).exists()] == []


@pytest.mark.parametrize("check", [["check"], ["format", "--check"]], ids=lambda check: check[0])
def test_its_code_passes_the_checks_of_this_repository(check: list[str], system: Path) -> None:
    run([sys.executable, "-m", "ruff", *check, "--no-cache", "gift_svc", "contracts"], system)


async def test_it_takes_part(system: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    async with open_shop(tmp_path / "shop", system) as shop:
        assert "gift" in shop.processes
        await shop.register("mug", stock=1)
        order_id = (await shop.place([("mug", 1)])).json()["order_id"]
        refused = (await shop.place([("mug", 1)])).json()["order_id"]
        await until_packed(shop, order_id, packed=True)
        await shop.post("order", f"/orders/{order_id}/cancel", user="u1")
        await until_packed(shop, order_id, packed=False)

        # Everything once more: answered already.
        await shop.until_quiet()
        before = await shop.facts(order_id)
        async with shop.broker() as client:
            await client.jetstream().reset_consumer("EVENTS", "gift", 1)
        await shop.until_quiet()

        assert await shop.facts(order_id) == before
        assert [fact for fact in before if fact.startswith("gift.")] == ["gift.packed", "gift.unpacked"]
        assert "gift.unpacked" in [step["fact"] for step in (await shop.order(order_id))["steps"]]
        assert [fact for fact in await shop.facts(refused) if fact.startswith("gift.")] == []
        assert await shop.stop("gift") == 0


async def until_packed(shop: Shop, order_id: str, *, packed: bool) -> None:
    async for _ in attempts(f"packed to be {packed}"):
        if (await shop.get("gift", f"/gifts/{order_id}")).json()["packed"] is packed:
            return


def test_the_flow_has_it(system: Path) -> None:
    shown = run([sys.executable, "-m", "ops.orders", "flow", "--markdown"], system)

    assert "| `gift_svc` | `order.confirmed` | Pack | `gift.packed.<order_id>` |\n" in shown
    assert "|  | `order.canceled` | Unpack | ↩ `gift.unpacked.<order_id>`<br>`gift.voided.<order_id>` |\n" in shown


def test_the_flow_refuses_it_if_it_does_not_hear_of_cancels(system: Path) -> None:
    reactions = system / "gift_svc" / "reactions.py"
    reactions.write_text(reactions.read_text().replace(", OrderCanceled: Unpack}", "}"))

    shown = subprocess.run(
        [sys.executable, "-m", "ops.orders", "flow"], cwd=system, capture_output=True, text=True, check=False
    )

    assert (shown.returncode, shown.stderr.splitlines()) == (
        1,
        [
            "Unpack of gift_svc is made for `order.canceled`, which does not bring it about",
            "gift_svc must undo its part after `order.canceled`, for it has Unpack; it does not hear it",
        ],
    )


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
