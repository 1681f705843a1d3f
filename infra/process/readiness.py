"""Answers `/readyz`: why the service is not ready, and what an operator should look at although it is."""

from typing import Final

from infra.consuming.session import Broker
from infra.http.operators.dead_letters import warnings_of
from infra.process.runtime import Runtime
from infra.store.errors import StoreError, StoreSetupError, next_step

SEE: Final = "See docs/operating.md#stores"
"""The next step where an error of the store names none."""


async def why_not_ready(runtime: Runtime) -> list[str]:
    """Return why the service is not ready: the store cannot record, `Broker.trouble`, or both; empty if it is ready.

    `Broker.trouble` is left out if its cause is the store that cannot record.
    """
    broker, why = runtime.broker, list[str]()
    try:
        await runtime.store.check()
    except StoreError as error:  # StoreSetupError is one, and says file and next step
        todo = next_step(error.__cause__ or error, SEE)
        step = "" if isinstance(error, StoreSetupError) else f". {todo}; the store is {runtime.store.place}"
        why.append(f"the store cannot record: {error}{step}")
    if broker.trouble and not (why and broker.store_failed):  # a session ends with its store: that is no cause
        why.append(broker.trouble)
    return why


def warnings(runtime: Runtime) -> list[str]:
    """Return the warnings: those of the consumers, such as their dead letters, then all others of the service."""
    now = runtime.clock()
    consumers = [one for name, consumer in runtime.consumers.items() for one in warnings_of(name, consumer, now)]
    return [*consumers, *runtime.broker.forecast, *(one for source in runtime.warnings for one in source())]


def ready_by_reason(broker: Broker, records: bool) -> dict[str, bool]:
    """Return, for each reason that can keep a service from being ready, False if it does so now, otherwise True.

    `why_not_ready` says more. This looks only at what is in memory; `records`: whether the store can record.
    """
    relay = broker.relay
    return {
        "broker": broker.connection is not None or broker.store_failed,
        "consumer": broker.connection is None or broker.supervisor.trouble is None,
        "log_lost": not broker.log_lost,
        "relay": relay is None or not relay.stalled,
        "relay_catching_up": relay is None or relay.has_caught_up,
        "store": records and not broker.store_failed,
        "stream_full": not broker.full,
    }
