"""`orders at`: the state of one order, product, account or coupon as it was then, folded from its service's log."""

from collections.abc import Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from contracts.wire import decode
from infra.decider import Aggregate
from infra.settings import Settings, load
from infra.sqlite import SQLiteStore


class Kind(NamedTuple):
    """What an operator names: the service that keeps it, and its streams' category."""

    service: str
    category: str


KINDS: Final = {
    "order": Kind("order", "order"),
    "product": Kind("product", "product"),
    "user": Kind("point", "account"),
    "coupon": Kind("coupon", "coupon"),
}


class Then(NamedTuple):
    """The state after `version`, the last fact until then: said `at` (UTC), at `position` of its service's log."""

    stream: str
    version: int
    position: int
    at: datetime
    fact: str
    state: dict[str, Any]


async def state_at(
    env: Mapping[str, str], kind: str, key: str, position: int | None = None, time: datetime | None = None
) -> Then | None:
    """As it was after this position of the log, or at this time; None: it did not exist yet.

    Facts count in their order, up to the first that is later. Raises SettingsError, StoreError.
    """
    service, category = KINDS[kind]
    stream = f"{category}-{key}"
    aggregate: Aggregate = import_module(f"{service}_svc.__main__").SERVICE.aggregates[category]
    state, then = aggregate.state(), None
    async with SQLiteStore.read(store(env, service)) as log:
        for record in await log.select_stream(stream):
            fact = decode(record.state)
            if (position is not None and record.position > position) or (time is not None and fact.at > time):
                break
            aggregate.evolve(state, fact)
            then = (stream, record.originator_version, record.position, fact.at, record.topic)
    return None if then is None else Then(*then, state=msgspec.to_builtins(state))


def store(env: Mapping[str, str], service: str) -> Path:
    """The file of a service's log."""
    return load(Settings, service, 1, env).data_dir / service / "events.sqlite"


def lines(then: Then) -> list[tuple[str, str]]:
    """For a person: name and value of everything, what is empty left out."""
    told = {**then._asdict(), "at": then.at.isoformat()}
    state = told.pop("state")
    return [
        *((name, str(value)) for name, value in told.items()),
        *(
            (name, value if isinstance(value, str) else msgspec.json.encode(value).decode())
            for name, value in state.items()
            if value not in (None, {}, [])
        ),
    ]
