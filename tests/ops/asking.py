"""`orders …` as an operator runs it on a shop."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

from infra.local import ROOT
from tests.shop import PATIENCE_S, Shop


async def orders(
    shop: Shop, *arguments: str, wrapper: str = "ops.orders", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command against this shop, to its end, without a terminal; `wrapper`: a module to run in its place."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", wrapper, *arguments],
        cwd=ROOT,
        env={**os.environ, **shop.env, "COLUMNS": "160", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        check=False,
    )


async def told(shop: Shop, *arguments: str, **env: str) -> Any:
    """What it says with --json; it must have been good."""
    done = await orders(shop, *arguments, "--json", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
