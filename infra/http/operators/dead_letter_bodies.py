"""The bodies of operators' requests about dead letters, and of the answers."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from infra.http.examples import example, example_of
from infra.http.parameters import Time

MAX_REASON: Final = 500  # characters


@example(consumer="stock", letters=1, oldest=datetime(2026, 1, 31, 6, 15, tzinfo=UTC), keys=["k1"])
class Depth(Struct):
    """How many dead letters a consumer has; 0 before its first session, whatever DEAD has.

    `oldest`: when the oldest was written, null without any. `keys`: the keys of the dead letters. Later messages of
    these keys become dead letters, too, except with a read model's consumer, which applies them.
    """

    consumer: str
    letters: int
    oldest: Time | None
    keys: list[str]


@example(consumers=[example_of(Depth)])
class Depths(Struct):
    consumers: list[Depth]


class Recorded(Struct):
    """A fact that a redrive recorded, or would record (dry run): its name, and its fields in `says`."""

    fact: str
    says: dict[str, Any]


class RedriveOutcome(Struct):
    """The result of a redrive for the dead letter at this `sequence` of the stream DEAD.

    `error` null: it was handled and deleted, or would be (dry run). Otherwise `error` says why handling failed, and
    the dead letter is kept. `recorded` is empty if no new fact followed, or handling failed.
    """

    sequence: int
    fact_id: str
    subject: str
    recorded: list[Recorded]
    error: str | None


@example(outcomes=[RedriveOutcome(7, "k1@1", "fact.k1", [], None)], left=0)
class RedriveOutcomes(Struct):
    """Results in the order of DEAD, up to the first dead letter that fails again, included; empty after a drop.

    `left`: how many dead letters of the key remain. `preview`: the hash of a dry run's outcomes; empty otherwise."""

    outcomes: list[RedriveOutcome]
    left: int
    preview: str = ""


Token = Annotated[str, Meta(min_length=1, max_length=256)]


@example(consumer="stock", key="k1")
class Redrive(Struct, frozen=True, forbid_unknown_fields=True):
    """Asks a consumer to handle its dead letters of `key` again, in order, up to the first that fails.

    `dry_run` (default true): decide, but record and delete nothing. `reason`: why; it is kept with a dead letter
    that fails again, but not in a dry run. `preview`: that of the dry run that was seen; empty: any outcome will do.
    """

    consumer: Token
    key: Token
    dry_run: bool = True
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""
    preview: Annotated[str, Meta(max_length=64)] = ""


@example(consumer="stock", key="k1", sequence=7)
class Drop(Struct, frozen=True, forbid_unknown_fields=True):
    consumer: Token
    key: Token
    sequence: Annotated[int, Meta(ge=1)]
