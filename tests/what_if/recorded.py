"""The recorded history and the working tree's code, and ways to change either."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from infra.core.decider import Aggregate
from infra.store.records import Notification
from ops.what_if.command import codes
from ops.what_if.difference import Difference, id_of
from ops.what_if.history import HistoryInMemory, read
from ops.what_if.judge import Code
from ops.what_if.report import WhatIfReport, decide_again

FILE: Final = Path(__file__).with_name("history.jsonl")


def recorded() -> HistoryInMemory:
    with FILE.open("rb") as lines:
        return read(lines)


async def logs_of(history: HistoryInMemory) -> dict[str, list[Notification]]:
    return {name: [record async for records in history.log(name) for record in records] for name in history.ends}


async def verdict(logs: Mapping[str, Sequence[Notification]], tree: Sequence[Code] | None = None) -> WhatIfReport:
    """All differences of these logs; `tree`: with this code instead of the working tree's."""
    return await decide_again(HistoryInMemory(logs), codes() if tree is None else tree, 1_000_000)


def replaced(
    logs: Mapping[str, Sequence[Notification]], its_id: str, change: Callable[[Notification], Notification | None]
) -> dict[str, list[Notification]]:
    """With another record in the place of this one, or without it."""
    return {
        name: [kept for record in log for kept in [change(record) if id_of(record) == its_id else record] if kept]
        for name, log in logs.items()
    }


# Changed code ---------------------------------------------------------------------------------------------------------


def edited(module: ModuleType, old: str, new: str) -> dict[str, Any]:
    """The functions of a domain module as they would be with this edit, over the same facts, commands and state."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{old!r} stands there {source.count(old)} times"
    names = dict(vars(module))
    exec(source[source.index("# Decide ---") :].replace(old, new), names)
    return names


def with_edit(category: str, module: ModuleType, old: str, new: str) -> list[Code]:
    """The working tree's code with one edit below `# Decide` of this aggregate's module."""
    names = edited(module, old, new)

    def change(aggregate: Aggregate) -> Aggregate:
        return dataclasses.replace(aggregate, decide=names["decide"], evolve=names["evolve"])

    return with_aggregates(lambda name, aggregate: change(aggregate) if name == category else aggregate)


def with_aggregates(change: Callable[[str, Aggregate], Aggregate]) -> list[Code]:
    return [
        code._replace(aggregates={name: change(name, aggregate) for name, aggregate in code.aggregates.items()})
        for code in codes()
    ]


def with_reactions(service: str, change: Callable[[dict[Any, Any]], Mapping[Any, Any]]) -> list[Code]:
    return [code._replace(reactions=change(dict(code.reactions))) if code.name == service else code for code in codes()]


def told(differences: Sequence[Difference]) -> set[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    """(service, kind, recorded, now) of each, once."""
    return {(one.service, one.kind, one.recorded, one.now) for one in differences}
