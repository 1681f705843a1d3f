"""The fifth service of docs/add-a-service.md, written into a copy of the system, takes part in it."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.local.services import service_names
from tests.docs.pages import ROOT, blocks
from tests.shop import Shop, attempts, open_shop

PAGE = ROOT / "docs" / "add-a-service.md"
EXAMPLE = [block for block in blocks(PAGE.read_text(encoding="utf-8")) if block.path]

FOUR = ("order", "product", "point", "coupon")

NEVER_UNDONE = "is canceled, but its gift step was never undone"

ON_PAPER = """
from ops.invariants import check
from tests.audit.paper import PaperShop

shop = PaperShop()
shop.register("mug", price=1_000, stock=1)
shop.place("mine", ("mug", 1))
shop.deliver()
shop.cancel("mine")
shop.deliver()
history = shop.history
print(check(history.logs, history.stream, quiet=True))
history.erase(history.id("gift.unpacked", "mine"))
print(*(f"{one.invariant}. {one.where} {one.what}" for one in check(history.logs, history.stream, quiet=True)))
"""
"""Prints the findings of an honest history, and of one whose gift stays packed."""

CHOSEN = """

class GiftChosen(GiftFact, frozen=True, kw_only=True, tag="gift.chosen"):
    by_client = True
"""
"""A fact that a client of gift_svc causes."""

BY_A_CLIENT = """
from contracts.gift import GiftChosen
from ops.invariants import check
from tests.audit.paper import OPENING, PaperShop

shop = PaperShop()
shop.place("mine", ("mug", 1))
shop.deliver()
order = shop.history.fact("order-mine@1").order
shop.history.record(GiftChosen(at=OPENING, order_id="mine", order=order))
print(check(shop.history.logs, shop.history.stream, quiet=True))
"""
"""Prints the findings of a history in which a client chose a gift."""


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A copy of the code with the four services that the page begins with, and the page's files in it.

    Other services that the checkout has, the page's own included, are left out.
    """
    copy = tmp_path / "system"
    others = [f"{name}.py" for name in service_names() if name not in FOUR]
    for folder in ("contracts", "infra", "ops", "bench", "tests", *(f"{name}_svc" for name in FOUR)):
        left_out = ["__pycache__", *(others if folder == "contracts" else ())]
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns(*left_out))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for block in EXAMPLE:
        path = copy / block.path
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text)
    return copy


def test_it_needs_its_own_folder_and_its_facts_and_nothing_else() -> None:
    assert [block.path for block in EXAMPLE if not block.path.startswith("gift_svc/")] == ["contracts/gift.py"]


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
            await client.jetstream().reset_consumer("EVENTS", "gift-hears-order-confirmed", 1)
        await shop.until_quiet()

        assert await shop.facts(order_id) == before
        assert [fact for fact in before if fact.startswith("gift.")] == ["gift.packed", "gift.unpacked"]
        assert "gift.unpacked" in [step["fact"] for step in (await shop.order(order_id))["steps"]]
        assert [fact for fact in await shop.facts(refused) if fact.startswith("gift.")] == []
        assert (await shop.order(order_id))["compensated"] is True

        audit = json.loads(await orders(system, shop, "audit", "--at-rest", "--json"))
        assert (audit["verdict"], audit["findings"], audit["logs"]["gift"]["records"]) == ("good", [], 2)
        assert "gift.unpacked" in await orders(system, shop, "trace", order_id)
        assert json.loads(await orders(system, shop, "at", "gift", order_id, "--json"))["state"] == {
            "answer": "unpacked"
        }
        assert await shop.stop("gift") == 0


async def test_the_audit_finds_a_gift_that_is_never_taken_out(system: Path, tmp_path: Path) -> None:
    break_its_undo(system)
    (tmp_path / "shop").mkdir()
    async with open_shop(tmp_path / "shop", system) as shop:
        await shop.register("mug", stock=1)
        order_id = (await shop.place([("mug", 1)])).json()["order_id"]
        await until_packed(shop, order_id, packed=True)
        await shop.post("order", f"/orders/{order_id}/cancel", user="u1")
        await shop.until_quiet()

        audit = json.loads(await orders(system, shop, "audit", "--at-rest", "--json", code=1))
        assert audit["findings"] == [[5, f"order {order_id}", NEVER_UNDONE]]
        assert (await shop.order(order_id))["compensated"] is False


def test_it_is_judged_on_paper(system: Path) -> None:
    assert run([sys.executable, "-c", ON_PAPER], system).splitlines() == ["[]", f"5. order mine {NEVER_UNDONE}"]


def test_a_fact_that_its_clients_cause_needs_no_cause(system: Path) -> None:
    contract = system / "contracts" / "gift.py"
    contract.write_text(contract.read_text() + CHOSEN)
    assert run([sys.executable, "-c", BY_A_CLIENT], system) == "[]\n"

    contract.write_text(contract.read_text().replace("by_client = True", "by_client = False"))
    assert "names no cause: gift.chosen" in run([sys.executable, "-c", BY_A_CLIENT], system)


@pytest.mark.parametrize(("runs", "kind"), [("64", []), ("100", ["--core"])], ids=["services", "core"])
def test_it_is_simulated(runs: str, kind: list[str], system: Path) -> None:
    simulate = [sys.executable, "-m", "tests.sim", "--jobs", "1", "--no-shrink", "--runs", runs, *kind]
    assert "nothing lost, doubled or stuck" in run(simulate, system)

    break_its_undo(system)
    found = re.match(r"seed (\d+) fails", run(simulate, system, code=1))
    assert found is not None
    assert NEVER_UNDONE in run([sys.executable, "-m", "tests.sim", found[1], *kind], system, code=1)


def break_its_undo(system: Path) -> None:
    domain = system / "gift_svc" / "domain.py"
    broken, count = re.subn(r'(if state.answer == "packed":\n +return ).*', r"\1()", domain.read_text())
    assert count == 1
    domain.write_text(broken)


async def orders(system: Path, shop: Shop, *arguments: str, code: int = 0) -> str:
    """What the system's own `orders` says of the shop."""
    command = [sys.executable, "-m", "ops.orders", *arguments]
    return await asyncio.to_thread(run, command, system, env={**shop.env, "COLUMNS": "160"}, code=code)


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
            "gift_svc.Unpack takes `order.canceled`, but REACTIONS has no entry for it",
            "gift_svc has a compensation (Unpack) but does not react to `order.canceled`",
        ],
    )


def run(command: list[str], folder: Path, *, env: Mapping[str, str] | None = None, code: int = 0) -> str:
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout
