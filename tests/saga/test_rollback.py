"""Older code on the data of newer code: it serves all that it knows, names the rest, and changes none of it."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import pytest_asyncio

from contracts.newer import NEXT_STEP
from infra.local.services import ROOT
from infra.store import vocabulary
from tests.ops.asking import orders
from tests.shop import Shop, attempts, logged, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEWER: Final[Mapping[str, Mapping[str, str]]] = {
    # A new reason.
    "contracts/fact.py": {
        'Literal["deadline-exceeded", "customer-canceled"]': (
            'Literal["deadline-exceeded", "customer-canceled", "customer-regretted"]'
        ),
        'case "customer-canceled":': 'case "customer-canceled" | "customer-regretted":',
    },
    "order_svc/domain.py": {'"customer-canceled", state.first_end': '"customer-regretted", state.first_end'},
    "order_svc/api.py": {'case "customer-canceled":': 'case "customer-canceled" | "customer-regretted":'},
    # A new field.
    "contracts/order.py": {"    deadline: Timestamp\n": '    deadline: Timestamp\n    channel: str = "web"\n'},
    # A new fact.
    "contracts/point.py": {
        "class PointDebited(": (
            'class PointGifted(AccountFact, frozen=True, kw_only=True, tag="point.gifted"):\n'
            "    by_client: ClassVar[bool] = True\n    implied: ClassVar[bool] = False\n\n\nclass PointDebited("
        ),
        "    | PointDebited\n": "    | PointGifted\n    | PointDebited\n",
    },
    "point_svc/domain/account.py": {
        "from contracts.point import (": "from contracts.point import PointGifted\nfrom contracts.point import (",
        "Event = PointDeposited |": "Event = PointGifted | PointDeposited |",
        "        case PointDebited() | ": (
            "        case PointGifted():\n            state.balance += event.points\n        case PointDebited() | "
        ),
    },
    "point_svc/domain/charge.py": {
        "from contracts.point import PointCharged,": "from contracts.point import PointCharged, PointGifted,",
        "    says: ClassVar = (PointDeposited,": "    says: ClassVar = (PointGifted, PointDeposited,",
        "                PointCharged(": (
            "                *[PointGifted(user_id=user_id, points=1, **command.stamp())] * (amount == 13),\n"
            "                PointCharged("
        ),
    },
    "contracts/product.py": {
        "class ProductStockAdded(": (
            'class ProductTagged(ProductFact, frozen=True, kw_only=True, tag="product.tagged"):\n'
            "    by_client: ClassVar[bool] = True\n\n\nclass ProductStockAdded("
        ),
        "    ProductRegistered\n    | ": "    ProductRegistered\n    | ProductTagged\n    | ",
    },
    "product_svc/domain/product.py": {
        "from contracts.product import": "from contracts.product import ProductTagged\nfrom contracts.product import",
        "Event = ProductRegistered |": "Event = ProductTagged | ProductRegistered |",
        "    says: ClassVar = (ProductRegistered,": "    says: ClassVar = (ProductTagged, ProductRegistered,",
        "                return (registered,)\n": (
            "                return registered, ProductTagged(product_id=product_id, **command.stamp())\n"
        ),
        "        case ProductStockHeld():\n": (
            "        case ProductTagged():\n            pass\n        case ProductStockHeld():\n"
        ),
    },
    "ops/invariants/stock.py": {
        "            case ProductStockAdded():": (
            "            case ProductTagged():\n                pass\n            case ProductStockAdded():"
        ),
        "from contracts.product import ProductSays": "from contracts.product import ProductSays, ProductTagged",
    },
    "ops/invariants/points.py": {
        "            case PointUseVoided():": (
            "            case PointGifted():\n"
            "                account = self._account(fact.user_id)\n"
            "                account.came += fact.points\n"
            "                account.left += fact.points\n"
            "            case PointUseVoided():"
        ),
        "from contracts.point import PointSays": "from contracts.point import PointGifted, PointSays",
    },
}
"""File → what newer code has in place of which text."""


class Left(NamedTuple):
    """What the newer version left. `regretted`: an order canceled for a reason that this code does not know; the others
    are a confirmed order and one that is canceled for a known reason. `gus` and `lamp` have a fact of an unknown type.
    """

    newer: Path
    regretted: str
    confirmed: str
    refused: str


def newer_code(folder: Path) -> Path:
    """A copy of this code that knows more."""
    copy = folder / "newer"
    for part in ("contracts", "infra", "ops", "bench", *(path.name for path in ROOT.glob("*_svc"))):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, changes in NEWER.items():
        text = (copy / name).read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (copy / name).write_text(text)
    return copy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """The data of the newer version, in the folder `shop` beside its code; nothing runs."""
    newer = newer_code(tmp_path_factory.mktemp("rollback"))
    (newer.parent / "shop").mkdir()
    async with open_shop(newer.parent / "shop", newer) as shop:
        await shop.register("mug", stock=100)
        await shop.register("lamp", stock=0)
        await shop.charge("gus", 13)
        await shop.charge("ann", 500)
        placed = [await shop.place([("mug", 1)], user="ann", points=points) for points in (100, 100, 900)]
        ids = [answer.json()["order_id"] for answer in placed]
        canceled = await shop.post("order", f"/orders/{ids[0]}/cancel", user="ann")
        assert canceled.json()["reason"] == "customer-regretted"
        await shop.until_ended(ids[0], "ann")
        assert await shop.balance("gus") == 14
        await shop.until_quiet()
        for name in [*shop.services, "nats"]:
            await shop.stop(name)
    return Left(newer, *ids)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def older(left: Left) -> AsyncIterator[Shop]:
    """This version, running on a copy of the data."""
    await asyncio.to_thread(shutil.copytree, left.newer.parent / "shop", left.newer.parent / "older")
    async with open_shop(left.newer.parent / "older") as shop:
        yield shop


async def warned(shop: Shop, service: str) -> str:
    answer = await shop.get(service, "/readyz")
    assert answer.status_code == 200
    return "; ".join(answer.json()["warnings"])


# The services ---------------------------------------------------------------------------------------------------------


async def test_it_is_ready_and_warns_of_the_facts_with_the_next_step(older: Shop, left: Left) -> None:
    async for _ in attempts("warnings"):
        if "1 streams" in await warned(older, "order") and "1 streams" in await warned(older, "point"):
            break

    order, point = await warned(older, "order"), await warned(older, "point")
    assert f"order-{left.regretted}@3 (order.canceled) at position" in order
    assert "'customer-regretted' is unknown here" in order
    assert "newer code may have recorded, from position" in order
    assert "fields that this version ignores: order.created.pending channel" in order
    assert "account-gus@2 (point.gifted) at position" in point
    assert NEXT_STEP in order
    assert NEXT_STEP in point
    assert "newer" not in await warned(older, "coupon")
    for service in ("order", "point"):
        lines = [line for line in older.log(service).read_text().splitlines() if "a newer version wrote this" in line]
        assert len(lines) == 1


async def test_the_affected_order_is_refused_in_words_and_the_others_are_answered(older: Shop, left: Left) -> None:
    records = logged(older.folder, "order")
    for answer in (
        await older.get("order", f"/orders/{left.regretted}", user="ann"),
        await older.post("order", f"/orders/{left.regretted}/cancel", user="ann"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/of-newer-code")
        assert f"order-{left.regretted}@3" in answer.json()["detail"]
        assert "'customer-regretted'" in answer.json()["detail"]
        assert NEXT_STEP in answer.json()["detail"]
        assert "store cannot record" not in answer.json()["detail"]
    assert logged(older.folder, "order") == records
    assert (await older.order(left.confirmed, "ann"))["status"] == "CONFIRMED"
    assert (await older.order(left.refused, "ann"))["reason"] == "points-insufficient"
    assert (await older.place([("mug", 1)], user="ann", points=50)).status_code == 200


async def test_an_account_with_an_unknown_fact_is_refused_and_its_order_becomes_a_letter(
    older: Shop, left: Left
) -> None:
    assert (await older.get("point", "/points/gus")).json()["type"] == "/problems/of-newer-code"
    assert await older.balance("ann") >= 0

    placing = asyncio.create_task(older.place([("mug", 1)], user="gus", points=1))
    async for _ in attempts("a dead letter"):
        listed = await orders(older, "dlq", "ls", "--json")
        if listed.returncode == 1:
            break
    (letter,) = json.loads(listed.stdout)
    assert "'point.gifted' is unknown here" in letter["error"]
    assert NEXT_STEP in letter["error"]
    tried = await orders(older, "dlq", "redrive", "--all")
    assert tried.returncode == 1
    assert "'point.gifted'" in tried.stdout
    placing.cancel()


async def test_a_list_shows_all_products_but_the_one_that_cannot_be_read_and_names_that(older: Shop) -> None:
    page = (await older.get("product", "/products")).json()

    assert [product["product_id"] for product in page["products"]] == ["mug"]
    assert (page["unreadable"], page["next"]) == (["lamp"], None)
    assert (await older.get("product", "/products/lamp")).json()["type"] == "/problems/of-newer-code"
    assert (await older.get("product", "/products/popular")).status_code == 200


# The commands ---------------------------------------------------------------------------------------------------------


async def test_the_audit_counts_what_it_cannot_judge_judges_the_rest_and_has_an_exit_code_for_that(
    older: Shop, left: Left
) -> None:
    done = await orders(older, "audit", "--json")
    report = json.loads(done.stdout)

    assert (done.returncode, report["verdict"], report["findings"]) == (4, "newer-code", [])
    assert report["newer_code"]["facts"] == 3
    told = "; ".join(f"{where} {what}" for where, what in report["newer_code"]["first"])
    assert f"order-{left.regretted}@3" in told
    assert "account-gus@2" in told
    assert report["newer_code"]["fields"] == ["order.created.pending channel"]
    assert report["orders"]["customer-regretted"] == 1
    assert report["answers"]["newer"] == 3
    assert report["answers"]["compared"] >= 4
    assert not (older.folder / "audit" / "checkpoint.sqlite").exists()
    shown = await orders(older, "audit")
    assert shown.returncode == 4
    assert "3 facts of newer code, not judged" in shown.stdout
    said = " ".join(shown.stdout.split())
    assert "Newer code may have recorded fields that this version ignores: order.created.pending channel" in said
    assert NEXT_STEP in shown.stdout


async def test_at_names_the_fact_and_how_to_see_what_was_before(older: Shop, left: Left) -> None:
    done = await orders(older, "at", "order", left.regretted)
    assert done.returncode == 4
    assert f"order-{left.regretted}@3 (order.canceled) at position" in done.stderr
    assert NEXT_STEP in done.stderr
    assert "Traceback" not in done.stderr
    before = done.stderr.partition("--position ")[2].partition(" ")[0]

    assert (await orders(older, "at", "order", left.regretted, "--position", before)).returncode == 0
    assert (await orders(older, "at", "order", left.confirmed)).returncode == 0
    gus = await orders(older, "at", "user", "gus")
    assert (gus.returncode, "'point.gifted'" in gus.stderr) == (4, True)


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (("trace", "{regretted}"), 0, "order-{regretted}@3 (order.canceled), sequence"),
        (("replay",), 0, "3 facts of newer code, the first: "),
        (("what-if",), 4, "3 facts of newer code, not judged"),
        (("export", "--once"), 4, "order-{regretted}@3 (order.canceled) at position"),
        (
            ("backup", "{folder}/backup"),
            0,
            "order_svc's store has 1 facts of newer code, the first: order-{regretted}@3",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
async def test_a_command_names_the_facts_and_the_next_step(
    older: Shop, left: Left, tmp_path: Path, command: tuple[str, ...], code: int, says: str
) -> None:
    known = {"regretted": left.regretted, "folder": str(tmp_path)}
    done = await orders(older, *(word.format(**known) for word in command), EXPORT_DIR=str(tmp_path / "export"))

    said = " ".join((done.stderr + done.stdout).split())
    assert done.returncode == code, said
    assert says.format(**known) in said
    assert NEXT_STEP in said
    assert "Traceback" not in said


async def test_trace_marks_the_fact(older: Shop, left: Left) -> None:
    done = await orders(older, "trace", left.regretted)

    assert "order.canceled (of newer code)" in done.stdout


async def test_a_backup_with_such_facts_is_restored_only_when_that_is_accepted(
    older: Shop, left: Left, tmp_path: Path
) -> None:
    assert (await orders(older, "backup", str(tmp_path / "backup"))).returncode == 0
    other = Shop(tmp_path / "other")
    (tmp_path / "other").mkdir()

    refused = await orders(other, "restore", str(tmp_path / "backup"))
    assert refused.returncode == 4
    assert "facts of newer code, the first: " in refused.stderr
    assert "Nothing was replaced" in " ".join(refused.stderr.split())
    assert not (tmp_path / "other" / "order").exists()
    accepted = await orders(other, "restore", str(tmp_path / "backup"), "--accept-findings")
    assert accepted.returncode == 0, accepted.stderr

    # The restored stores come without the file, so the whole log is searched.
    await other.start_nats()
    await other.start("point")
    async for _ in attempts("the warning"):
        if "account-gus@2" in await warned(other, "point"):
            break
    await other.close()


async def test_a_store_is_rebuilt_with_such_facts_byte_for_byte(left: Left, tmp_path: Path) -> None:
    await asyncio.to_thread(shutil.copytree, left.newer.parent / "shop", tmp_path / "shop")
    shop = Shop(tmp_path / "shop")
    before = (await asyncio.to_thread(vocabulary.read, tmp_path / "shop" / "point")) or []
    await shop.start_nats()
    try:
        done = await orders(shop, "rebuild", "point")
        assert done.returncode == 0, done.stderr
        assert "1 facts of newer code, the first: account-gus@2 (point.gifted)" in " ".join(done.stdout.split())
        assert logged(shop.folder, "point") > 0
        assert vocabulary.read(tmp_path / "shop" / "point") == before
    finally:
        await shop.close()


# Forward again --------------------------------------------------------------------------------------------------------


async def test_the_newer_version_goes_on_where_it_was_and_nothing_is_lost(left: Left, tmp_path: Path) -> None:
    """The broker's store is lost, too: the older version writes the whole log again, with what it does not know."""
    ignored = shutil.ignore_patterns("nats")
    await asyncio.to_thread(shutil.copytree, left.newer.parent / "shop", tmp_path / "shop", ignore=ignored)
    async with open_shop(tmp_path / "shop") as older:
        placed = await older.place([("mug", 1)], user="ann", points=50)
        assert placed.status_code == 200
        await older.until_quiet()
        for name in [*older.services, "nats"]:
            await older.stop(name)

    async with open_shop(tmp_path / "shop", left.newer) as again:
        regretted = await again.order(left.regretted, "ann")
        assert (regretted["status"], regretted["reason"]) == ("CANCELED", "customer-regretted")
        assert await again.balance("gus") == 14
        assert (await again.order(placed.json()["order_id"], "ann"))["status"] == "CONFIRMED"
        assert "newer" not in await warned(again, "order")
        await again.until_quiet()
        audited = await asyncio.to_thread(in_newer_code, left.newer, again.env, "audit", "--at-rest", "--json")
        assert (audited.returncode, json.loads(audited.stdout)["findings"]) == (0, [])


def in_newer_code(root: Path, env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.orders", *arguments],
        cwd=root,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
