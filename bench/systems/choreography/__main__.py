"""`python -m bench.systems.choreography NAME`: one of the four services.

The environment has the settings: DATA_DIR, NATS_PORT, PORT.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

from fastapi import FastAPI

from bench.systems.bodies import Refused, refused, serve
from bench.systems.choreography.service import broker


def app(name: str) -> FastAPI:
    """The service of this name. It listens when it has subscribed."""
    service = import_module(f"bench.systems.choreography.{name}")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.STORE.open(Path(os.environ["DATA_DIR"]) / f"{name}.sqlite")
        await broker.start()
        if name == "order":
            await service.publish_pending()
        yield
        await broker.stop()
        await service.STORE.close()

    made = FastAPI(lifespan=lifespan, exception_handlers={Refused: refused})
    made.include_router(service.ROUTER)

    @made.get("/readyz")
    async def readyz() -> dict[str, bool]:
        return {"ready": True}

    return made


if __name__ == "__main__":
    serve(app(sys.argv[1]))
