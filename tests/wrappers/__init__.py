"""Services run by tests as processes with a fault built in: the product code knows nothing of these.

Each module patches one step and then runs the service that the variable WRAPPED names.
"""

import importlib
import os

from infra.process.service import Service, run


def run_wrapped() -> None:
    service: Service = importlib.import_module(f"{os.environ['WRAPPED']}_svc.__main__").SERVICE
    run(service)
