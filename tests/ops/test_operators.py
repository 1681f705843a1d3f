"""`just operators`: what was done to dead letters and read models, and whether anybody has changed the log of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ops.asking import orders, told
from tests.saga.test_dead_letters import letters, say, until_parked
from tests.shop import Shop, open_shop

FOREIGN = ["--full", "--foreign", "1", "--foreign", "2"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """A shop with two foreign messages as dead letters."""
    async with open_shop(tmp_path_factory.mktemp("shop")) as opened:
        await say(opened, "point.used.o1", b"garbage")
        await say(opened, "point.used.o2", b"garbage")
        await until_parked(opened, 2)
        yield opened


def raw(path: Path) -> bytes:
    return path.read_bytes()


async def test_what_was_done_is_listed_with_its_outcome(shop: Shop) -> None:
    first, second = await letters(shop)
    assert await told(shop, "operators") == []
    await orders(shop, "dlq", "redrive", str(first.sequence))
    await orders(shop, "dlq", "redrive", str(first.sequence), "--yes", "--reason", "a try")
    await orders(shop, "dlq", "drop", str(second.sequence), "--yes")
    await shop.http.post(shop.url("product", "/ops/views/catalog/rebuild"))
    await shop.http.post(shop.url("product", "/ops/views/none/rebuild"))

    found = await told(shop, "operators")

    assert [(one["service"], one["action"], one["outcome"], one["reason"]) for one in found] == [
        ("coupon", "preview", "fails", ""),
        ("coupon", "redrive", "fails", "a try"),
        ("coupon", "drop", "done", ""),
        ("product", "rebuild", "done", ""),
        ("product", "rebuild", "refused", ""),
    ]
    assert found[2]["target"] == {"consumer": "coupon", "key": "o2", "sequence": second.sequence}
    assert {one["client"] for one in found} == {"127.0.0.1"}
    later = found[3]["at"]
    assert len(await told(shop, "operators", "--since", later)) == 2
    shown = await orders(shop, "operators")
    assert (shown.returncode, "a try" in shown.stdout) == (0, True)


async def test_a_preview_that_no_longer_holds_stops_the_redrive(shop: Shop) -> None:
    first, *_ = await letters(shop)
    url = shop.url("coupon", "/ops/dead-letters/redrive")
    body = {"consumer": "coupon", "key": first.key}
    preview = (await shop.http.post(url, json=body)).json()["preview"]
    assert len(preview) == 64

    same = await shop.http.post(url, json={**body, "dry_run": False, "preview": preview})
    other = await shop.http.post(url, json={**body, "dry_run": False, "preview": "0" * 64})

    assert (same.status_code, same.json()["preview"]) == (200, "")
    assert (other.status_code, other.json()["type"]) == (409, "/problems/preview-changed")
    assert [one["outcome"] for one in await told(shop, "operators")][-1] == "refused"


async def test_a_log_that_was_changed_is_a_finding_of_the_audit_too(shop: Shop) -> None:
    path = shop.folder / "coupon" / "operators.jsonl"
    before = raw(path)
    good = await orders(shop, "audit", *FOREIGN)
    assert good.returncode == 0, good.stdout + good.stderr

    path.write_bytes(before.replace(b"a try", b"a lie"))
    try:
        listed, audited = await orders(shop, "operators"), await orders(shop, "audit", *FOREIGN)
        for done in (listed, audited):
            assert done.returncode == 1
            assert "operators.jsonl, line" in done.stderr
            assert "was changed, moved or taken out" in done.stderr
    finally:
        path.write_bytes(before)


async def test_a_log_that_cannot_be_written_stops_the_action_and_the_start(shop: Shop) -> None:
    path = shop.folder / "product" / "operators.jsonl"
    await shop.stop("product")
    kept = path.rename(path.with_suffix(".kept"))
    path.mkdir()
    try:
        await shop.start("product", ready=False)
        assert await shop.ended("product") == 2
        assert "the operators' log" in shop.log("product").read_text()
    finally:
        path.rmdir()
        kept.rename(path)
        await shop.start("product")
