"""Services run by tests as processes with a fault built in, by arguments that the product code has anyway.

Each module runs the service that the variable WRAPPED names, with a store, a client, reactions, aggregates or a
projection of its own.
"""

import importlib
import os
from dataclasses import replace
from typing import Any

from infra.process.service import Service


def wrapped(**changes: Any) -> Service:
    """The service that WRAPPED names, with these fields changed."""
    service: Service = importlib.import_module(f"{os.environ['WRAPPED']}_svc.__main__").SERVICE
    return replace(service, **changes)
