"""The chain of docs/audit.md, computed as the page says, is the report's."""

import asyncio
import subprocess
import sys
from pathlib import Path

from infra.local.services import ROOT, service_names
from tests.docs.pages import blocks, section
from tests.ops.asking import told
from tests.shop import Shop

PAGE = ROOT / "docs" / "audit.md"


async def test_the_chain_is_computed_without_this_program(shop: Shop, tmp_path: Path) -> None:
    await shop.register("mug")
    await shop.charge("u1", 100)
    await shop.place([("mug", 1)], points=10)
    await shop.place([("mug", 1_000)])
    await shop.until_quiet()
    (program,) = blocks(section(PAGE, "## The chain"))
    (tmp_path / "chain.py").write_text(program.text)
    (tmp_path / "100% of a?b#c").symlink_to(shop.folder)

    report = await told(shop, "audit", "--at-rest")

    for name in service_names():
        log = report["logs"][name]
        store = str(tmp_path / "100% of a?b#c" / name / "events.sqlite")
        command = [sys.executable, str(tmp_path / "chain.py"), store, str(log["position"])]
        assert (await asyncio.to_thread(subprocess.check_output, command, text=True)).strip() == log["sha256"]
