"""The form of a fact in EVENTS: one line of JSON under the subject `<name>.<key>`, with headers from its record.

A message body is the recorded fact, byte for byte, so log and stream need no translation. This module also lists all
facts, steps and services, and says which facts cannot be published.
"""

import pkgutil
import re
from collections.abc import Iterator
from functools import reduce
from hashlib import sha256
from operator import or_
from types import ModuleType
from typing import Any, Final, get_type_hints

import msgspec

import contracts
from contracts.fact import MOST, Count, Fact
from contracts.ids import MEANING, is_id, is_stream
from contracts.newer import OfNewerCode, newer, newer_key, vocabulary, words_of
from contracts.order import OrderCanceled, OrderCreatedPending
from contracts.step import Step, fact_name, in_order

MSG_ID: Final = "Nats-Msg-Id"
"""The header with the fact's id. JetStream refuses a second message with the same id inside its duplicate window."""
STREAM: Final = "Fact-Stream"
VERSION: Final = "Fact-Version"
POSITION: Final = "Fact-Position"
"""The header with the fact's position in its service's log. By it a relay finds which facts EVENTS has."""
RESENT: Final = "Fact-Resent"
"""The header of a fact that EVENTS had lost, among later ones that it has. It says `true`; other facts have none."""

MAX_BYTES: Final = 64 << 10
"""The limit of one message of EVENTS, headers included. The largest order makes facts of about 11 KiB: 100 lines with
the longest ids."""
HEADER_BYTES: Final = 1 << 10
"""More than the headers of one fact take."""

DERIVED: Final = frozenset({"asyncapi", "origin", "spans", "wire"})
"""Modules of contracts/ that are made from all other modules. Only those others are searched for facts and steps."""


def said_by(name: str) -> str:
    """Return the name of the service that says the fact of this name, without `_svc`: `order` for `order.confirmed`."""
    return name.partition(".")[0]


def _facts(module: ModuleType) -> list[type[Fact]]:
    """Return the fact types that a module declares, in its order; base classes of facts are left out.

    Raises TypeError if the first part of a fact's name (`said_by`) is not the module's name.
    """
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Fact)]
    # A base class has no tag of its own; msgspec gives it the name of the class.
    facts = [kind for kind in kinds if kind.__module__ == module.__name__ and fact_name(kind) != kind.__name__]
    for fact in facts:
        if f"contracts.{said_by(fact_name(fact))}" != module.__name__:
            raise TypeError(f"{fact_name(fact)} is declared in {module.__name__}, not in its service's module")
    return facts


_MODULES: Final[list[ModuleType]] = [
    pkgutil.resolve_name(f"contracts.{module.name}")
    for module in sorted(pkgutil.iter_modules(contracts.__path__))
    if module.name not in DERIVED
]
_DECLARED: Final = {
    module.__name__.removeprefix("contracts."): facts for module in _MODULES if (facts := _facts(module))
}

STEPS: Final = in_order(step for module in _MODULES for step in vars(module).values() if isinstance(step, Step))
"""The steps that services declare, before and after `order.confirmed`, each part in the order of the saga."""

SERVICES: Final = tuple(
    dict.fromkeys(
        [
            said_by(fact_name(OrderCreatedPending)),
            *(step.service for step in STEPS.awaited + STEPS.following),
            *_DECLARED,
        ]
    )
)
"""The services that say facts, without `_svc`: order, then those with a step in the order of the saga, then all others
by name."""

FACTS: Final[dict[str, type[Fact]]] = {fact_name(fact): fact for service in SERVICES for fact in _DECLARED[service]}
"""Fact name → type, for every fact. Its order is that of SERVICES, then of declaration."""

NAMES: Final[dict[type[Fact], str]] = {fact: name for name, fact in FACTS.items()}
"""Type → fact name: the JSON `type`, the stored topic, and the beginning of the NATS subject."""


def must_hear(service: str) -> frozenset[type[Fact]]:
    """Return the facts that a service must react to; otherwise orders would wait, or keep what they took.

    For the service of a step: what starts the step, the refusals of the awaited steps after it, and a cancel. For the
    service that accepts orders: the `done` of the last awaited steps, and every refusal. Empty for other services.
    """
    awaited = STEPS.awaited
    if service == said_by(fact_name(OrderCreatedPending)):
        heard = {step.hears for step in awaited}
        return frozenset(fact for step in awaited for fact in (step.refused, step.done) if fact and fact not in heard)
    found: set[type[Fact]] = set()
    for step in awaited + STEPS.following:
        if step.service == service:
            found |= {step.hears, OrderCanceled, *_refusals_after(step.done)}
    return frozenset(found)


def _refusals_after(done: type[Fact]) -> Iterator[type[Fact]]:
    for step in STEPS.awaited:
        if step.hears is done:
            yield from [step.refused] if step.refused else []
            yield from _refusals_after(step.done)


VOCABULARY: Final = vocabulary(NAMES)
"""All that this code knows of facts. Two versions of the code with the same vocabulary read each other's facts."""

COMPENSATIONS: Final = frozenset(
    NAMES[fact] for step in STEPS.awaited + STEPS.following for fact in (step.undone, *step.returned)
)
"""Names of the facts that give back what a step took: `undone` and `returned` of each step, no fences."""

_COUNTS: Final = {
    fact: tuple(
        name for name, hint in get_type_hints(fact, include_extras=True).items() if hint in (Count, Count | None)
    )
    for fact in NAMES
}
"""Type → the names of its fields of the type Count or `Count | None`."""

_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPED: Final = re.compile(rb"%([0-9A-F]{2})")

_any_fact: Any = reduce(or_, FACTS.values())
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(_any_fact)
KEY_FIELDS: Final = tuple(sorted({fact.key_field for fact in NAMES}))
"""The names of the fields that are the key of some fact, such as `order_id`."""
_keys: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("_Keys", [(key, str | None, "") for key in KEY_FIELDS])
)
"""Decodes only the ids in a body, a missing one as "". This costs a fraction of decoding the fact."""


def encode(fact: Fact) -> bytes:
    """Return the body of a fact: UTF-8 JSON on one line, with the fact's name as `type`."""
    return _encoder.encode(fact)


def decode(body: bytes) -> Fact:
    """Return the fact in a body. Unknown fields are ignored: they come from newer code.

    Raises msgspec.DecodeError for a body that is not JSON, or is nested too deeply, and its subclass
    msgspec.ValidationError for a field that breaks the contract. Of that, OfNewerCode is a subclass: for an unknown
    `type` or an unknown word, such as a reason.
    """
    try:
        return _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    except msgspec.ValidationError:
        if (why := newer(body, FACTS)) is not None:
            raise why from None
        raise


def why_newer(name: str, body: bytes) -> OfNewerCode | None:
    """Return the error that says what makes a recorded fact one of newer code. Does not raise the error.

    None: this code knows the fact, or it is damaged. `name` is its topic. A body under a known name is decoded only if
    such facts have a field for which `words_of` gives words, such as `reason`.
    """
    if name in FACTS and not words_of(FACTS[name]):
        return None
    try:
        decode(body)
    except OfNewerCode as why:
        return why
    except msgspec.DecodeError:
        return None
    return None


def fact_id(stream: str, version: int) -> str:
    """Return the id, `<stream>@<version>`, of the fact at this version (from 1) of this aggregate's stream."""
    return f"{stream}@{version}"


def subject(name: str, body: bytes, stream: str = "") -> str:
    """Return the subject that a fact has in EVENTS: `<name>.<key>`, with the key as a `token`.

    `name` is the fact's name. If this code knows it, the key is in the body's `key_field`; else it is the `newer_key`,
    which needs the `stream`. A key that the body of a known name lacks counts as an empty one. Raises KeyError for an
    unknown name without a stream. For the body of a known name, raises msgspec.DecodeError if it is no JSON object, or
    an id in it is neither text nor null; UnicodeDecodeError for an id that is not UTF-8; RecursionError if it is nested
    too deeply.
    """
    if name not in FACTS and stream:
        return f"{name}.{token(newer_key(body, stream))}"
    return f"{name}.{token(str(getattr(_keys.decode(body), FACTS[name].key_field)))}"


def token(key: str) -> str:
    """Return the last token of the subject of a fact with this key.

    The token is the key itself if that is an id. Any other key, which older code may have recorded, becomes `~` and 32
    hexadecimal digits of a hash: NATS takes that.
    """
    return key if is_id(key) else f"~{sha256(key.encode()).hexdigest()[:32]}"


def header_value(stream: str) -> str:
    """Return the name of an aggregate's stream in the form that it has in the headers.

    Characters that no id has are percent-encoded; only names that older code recorded have any.
    """
    if stream.isascii() and stream.replace("-", "_").isidentifier():  # half the cost of a regular expression
        return stream
    return _UNSAFE.sub(lambda byte: b"%%%02X" % byte[0][0], stream.encode()).decode()


def message_id(stream: str, version: int) -> str:
    """Return the Nats-Msg-Id of the fact at this version of this aggregate's stream: `<header_value>@<version>`."""
    return fact_id(header_value(stream), version)


def stream_of(value: str) -> str:
    """Return the name of the aggregate's stream from which `header_value` made this value."""
    if "%" not in value:
        return value
    return _ESCAPED.sub(lambda byte: bytes([int(byte[1], 16)]), value.encode()).decode(errors="replace")


def flaw(fact: Fact, body: bytes, max_bytes: int = MAX_BYTES) -> str | None:
    """Return why a fact with this body cannot be published or heard, as a clause about the fact; None if it can.

    The fact's key and the id in its stream must be ids, and the counts in its own fields from 0 to MOST. Counts inside
    `order` and `unit_prices` are not checked. The body may have `max_bytes` less HEADER_BYTES: `max_bytes` is the limit
    of a message, headers included.
    """
    if len(body) > max_bytes - HEADER_BYTES:
        return f"it has {len(body):,} bytes, and the broker takes {max_bytes - HEADER_BYTES:,}"
    key = getattr(fact, fact.key_field)
    if not is_id(key):
        return f"its {fact.key_field} {_short(key)} is no id: {MEANING}"
    stream = fact.stream
    if not is_stream(stream):
        return f"its stream {_short(stream)} has no id in it: {MEANING}"
    for name in _COUNTS[type(fact)]:
        count = getattr(fact, name)
        if count is not None and not 0 <= count <= MOST:
            return f"its {name} is not from 0 to {MOST:,}"
    return None


def _short(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:80]}…")
