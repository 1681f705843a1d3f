"""`orders …` as an operator runs it on a shop."""

import json
import os
import subprocess
from typing import Any

from tests.forked import run
from tests.shop import Shop


async def orders(
    shop: Shop, *arguments: str, wrapper: str = "ops.orders", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command against this shop, to its end, without a terminal; `wrapper`: a module to run in its place."""
    return await run(wrapper, *arguments, env={**os.environ, **shop.env, "COLUMNS": "160", **env})


async def told(shop: Shop, *arguments: str, **env: str) -> Any:
    """What it says with --json; it must have been good."""
    done = await orders(shop, *arguments, "--json", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
