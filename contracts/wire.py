"""How a fact travels in NATS: one line of JSON under the subject `<name>.<key>`, with four headers from its record.

A message body is the recorded fact, byte for byte, so log and stream need no translation. This module also lists all
facts, steps and services.
"""

import pkgutil
from functools import reduce
from operator import or_
from types import ModuleType
from typing import Any, Final

import msgspec

import contracts
from contracts.fact import Fact
from contracts.order import OrderCreatedPending
from contracts.step import Step, fact_name, in_order

MSG_ID: Final = "Nats-Msg-Id"
"""The header with the fact's id. JetStream refuses a second message with the same id inside its duplicate window."""
STREAM: Final = "Fact-Stream"
VERSION: Final = "Fact-Version"
POSITION: Final = "Fact-Position"
"""The header with the fact's position in its service's log. A relay resumes after the position in its service's last
message in EVENTS."""

DERIVED: Final = frozenset({"asyncapi", "wire"})
"""Modules of contracts/ that are made from all other modules. Only those others are searched for facts and steps."""


def said_by(name: str) -> str:
    """Return the service that says the fact of this name, without `_svc`: `order` for `order.confirmed`."""
    return name.partition(".")[0]


def _facts(module: ModuleType) -> list[type[Fact]]:
    """Return the fact types that a module declares, in its order. Raises TypeError if one names another service."""
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

COMPENSATIONS: Final = frozenset(
    NAMES[fact] for step in STEPS.awaited + STEPS.following for fact in (step.undone, *step.returned)
)
"""Names of the facts that give back what a step took: `undone` and `returned` of each step, no fences."""

_any_fact: Any = reduce(or_, FACTS.values())
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(_any_fact)
_keys: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("_Keys", [(key, str | None, "") for key in sorted({fact.key_field for fact in NAMES})])
)
"""Decodes only the ids in a body, a missing one as "". This costs a fraction of decoding the fact."""


def encode(fact: Fact) -> bytes:
    """Return the body of a fact: UTF-8 JSON on one line, with the fact's name as `type`."""
    return _encoder.encode(fact)


def decode(body: bytes) -> Fact:
    """Return the fact in a body. Unknown fields are ignored: they come from newer code.

    Raises msgspec.DecodeError for a body that is not JSON, and its subclass msgspec.ValidationError for an unknown
    `type` or a field that breaks the contract. A text that is not UTF-8 raises UnicodeDecodeError.
    """
    return _decoder.decode(body)


def fact_id(stream: str, version: int) -> str:
    """Return the id, `<stream>@<version>`, of the fact at this version (from 1) of this aggregate's stream."""
    return f"{stream}@{version}"


def subject(name: str, body: bytes) -> str:
    """Return the subject under which a fact is published: `<name>.<key>`, with the key from the fact's body.

    `name` is the fact's name; the key is the id in the fact's `key_field`. Raises KeyError for an unknown name,
    msgspec.DecodeError if the body cannot be decoded, and UnicodeDecodeError for an id that is not UTF-8.
    """
    return f"{name}.{getattr(_keys.decode(body), FACTS[name].key_field)}"
