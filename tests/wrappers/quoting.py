"""A service as it was: to it `"k1"`, with its quotes, is another idempotency key than k1."""

import importlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

from infra.process.service import run
from tests.wrappers import wrapped


async def as_sent(sent: str, _: Callable[[str], Awaitable[bool]]) -> str:
    return sent


if __name__ == "__main__":
    api: Any = importlib.import_module(f"{os.environ['WRAPPED']}_svc.api")
    api.read_key = as_sent
    run(wrapped())
