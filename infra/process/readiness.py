"""Answers `/readyz`: why the service is not ready, and what an operator should look at although it is."""

from infra.http.operators.dead_letters import warnings_of
from infra.process.runtime import Runtime
from infra.store.errors import StoreError


async def why_not_ready(runtime: Runtime) -> list[str]:
    """Return the reasons why the service cannot record facts, or consume and publish messages; empty if it can."""
    why = [runtime.broker.trouble] if runtime.broker.trouble else []
    try:
        await runtime.store.check()
    except StoreError as error:  # StoreSetupError is one
        why.append(f"the store cannot record: {error}")
    return why


def warnings(runtime: Runtime) -> list[str]:
    """Return the warnings: those of the consumers, such as their dead letters, then all others of the service."""
    now = runtime.clock()
    consumers = [one for name, consumer in runtime.consumers.items() for one in warnings_of(name, consumer, now)]
    overdue = [runtime.broker.overdue] if runtime.broker.overdue else []
    return [*consumers, *overdue, *(one for source in runtime.warnings for one in source())]
