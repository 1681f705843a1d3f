"""`orders at`: show the state, at a moment, of one order, product or other thing that a service keeps."""

import asyncio
import os
import pkgutil
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
import rich_click as click

from contracts.fact import DECODE_ERRORS, Fact, time_of
from contracts.newer import OfNewerCode
from contracts.wire import decode, fact_id
from infra.core.decider import Aggregate
from infra.local.services import service_names
from infra.store.records import Notification
from ops import stores
from ops.cli import ID, INSTANT, SEQUENCE, TIMES, ending_well
from ops.errors import Found, RecordedByNewerCode
from ops.output import cell, print_json, print_out

WORDS: Final = {"account": "user"}
"""Category of streams → the operators' word for it, where the two differ."""


class HistoryKind(NamedTuple):
    """A kind of thing that a service keeps: the service, the category of its streams, the aggregate that folds them."""

    service: str
    category: str
    aggregate: Aggregate


@cache
def kinds() -> Mapping[str, HistoryKind]:
    """Map the operators' word for each kind (`order`, `product`, `user` and others) to the kind.

    The kinds come from the aggregates of all services. The first call imports the services, so call it only when
    needed.
    """
    return {
        WORDS.get(category, category): HistoryKind(service, category, aggregate)
        for service in service_names()
        for category, aggregate in pkgutil.resolve_name(f"{service}_svc.__main__:SERVICE").aggregates.items()
    }


class KindName(click.ParamType[str]):
    """A parameter whose value is a key of `kinds()`. Only checking a value, or showing help or usage, calls `kinds`."""

    name = "kind"

    def convert(self, value: str, param: click.Parameter | None, context: click.Context | None) -> str:
        if value not in kinds():
            self.fail(f"{value!r} is not one of {', '.join(map(repr, kinds()))}.", param, context)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"{{{'|'.join(kinds())}}}"


class Then(NamedTuple):
    """The state of a thing, as plain values, and the last fact in it.

    `stream`, `version` and `position`: where that fact is recorded. `fact` is its name, and `at` its instant (UTC).
    """

    stream: str
    version: int
    position: int
    at: datetime
    fact: str
    state: dict[str, Any]


async def state_at(
    env: Mapping[str, str], kind: str, key: str, position: int | None = None, time: datetime | None = None
) -> Then | None:
    """Fold and return the state of a thing as of a position of its service's log, or as of a time; without both, now.

    `kind` is a key of `kinds()`, `key` the thing's id. The facts before the first later one count; one at exactly that
    position or time is not later. Returns None if there was no fact by then. Raises RecordedByNewerCode if newer code
    recorded one of them, Found if one cannot be read; SettingsError, Unreachable.
    """
    aggregate = kinds()[kind].aggregate
    state, then = aggregate.state(), None
    for record, fact in await history(env, kind, key, position, time):
        aggregate.evolve(state, fact)
        then = (record.originator_id, record.originator_version, record.position, fact.at, record.topic)
    return None if then is None else Then(*then, state=shown_state(state))


async def history(
    env: Mapping[str, str], kind: str, key: str, position: int | None = None, time: datetime | None = None
) -> list[tuple[Notification, Fact]]:
    """Read the facts of a thing's stream, with their records, from the log of the service that keeps it; by version.

    Before them come those that older code recorded in another stream, if the log's index has them. The list ends before
    the first fact that is later than `position` or `time`; None: neither bounds it. Raises RecordedByNewerCode if newer
    code recorded one of them, Found if one cannot be read; SettingsError, Unreachable.
    """
    service, category, _ = kinds()[kind]
    stream = f"{category}-{key}"
    found: list[tuple[Notification, Fact]] = []
    async with stores.log(env, service) as log:
        for record in await log.select_stream(stream):
            at = _at(record.state)
            if (position is not None and record.position > position) or (time is not None and at and at > time):
                break
            try:
                found.append((record, decode(record.state)))
            except (msgspec.DecodeError, RecursionError) as error:
                its_id = fact_id(record.originator_id, record.originator_version)
                why = f"{its_id} ({record.topic}) at position {record.position} cannot be read"
                if isinstance(error, OfNewerCode):
                    before = f"; --position {record.position - 1} shows {kind} {key} before it"
                    raise RecordedByNewerCode(f"{why}: {error}{before if found else ''}") from error
                raise Found(f"{why}, so {kind} {key} is unknown: {error}") from error
    return found


def _at(body: bytes) -> datetime | None:
    try:
        return time_of(body)
    except DECODE_ERRORS:  # said when it is decoded
        return None


def shown_state(state: Any) -> dict[str, Any]:
    """Return a state as plain values by name: first the properties of its class, then its fields.

    Such a property is an order's status, which is computed from the fields.
    """
    names = [name for name, value in vars(type(state)).items() if isinstance(value, property)]
    derived = {name: msgspec.to_builtins(getattr(state, name)) for name in names}
    return {**derived, **msgspec.to_builtins(state)}


def lines(then: Then) -> list[tuple[str, str]]:
    """Return the last fact's place, time and name, then the state, for a person: as pairs of name and text.

    Fields of the state that are null, an empty list or an empty map are left out. A map has a pair for each entry; only
    the first of these pairs has the map's name, the others an empty one.
    """
    told = {**then._asdict(), "at": then.at.isoformat()}
    state = told.pop("state")
    made = [(name, str(value)) for name, value in told.items()]
    for name, value in state.items():
        if isinstance(value, dict) and value:
            width = max(map(len, value))
            entries = [f"{key:<{width}}  {_text(one)}" for key, one in value.items()]
            made += [(name if not number else "", entry) for number, entry in enumerate(entries)]
        elif value not in (None, {}, []):
            made.append((name, _text(value)))
    return made


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


@click.command("at")
@click.argument("kind", type=KindName())
@click.argument("key", metavar="ID", type=ID)
@click.option("--position", type=SEQUENCE, help="As of this position of the service's log.")
@click.option("--time", type=INSTANT, help=f"As of this time: {TIMES}.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@ending_well
def command(kind: str, key: str, position: int | None, time: datetime | None, as_json: bool) -> None:
    """Show the state of an order, a product, a user's points, a coupon or another thing; without options, as it is now.

    The state is folded from the log of the service that keeps it. The log is read from DATA_DIR, whether the service
    runs or not.
    """
    if position is not None and time is not None:
        raise click.UsageError("either --position or --time")
    then = asyncio.run(state_at(os.environ, kind, key, position, time))
    if then is None:
        raise Found(f"there was no {kind} {key} then")
    if as_json:
        print_json(then._asdict())
    else:
        told = lines(then)
        width = max(len(name) for name, _ in told)
        print_out("\n".join(f"{name:<{width}}  {cell(value)}" for name, value in told))
