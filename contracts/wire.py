"""How a fact travels: one line of JSON under `<fact>.<key>`, with four headers derived from the record.

A message body is the recorded fact, byte for byte, so the two copies of history need no translation. All facts, steps
and services are listed here, too.
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
"""The fact id. JetStream refuses a second message with the same id inside its duplicate window."""
STREAM: Final = "Fact-Stream"
VERSION: Final = "Fact-Version"
POSITION: Final = "Fact-Position"
"""The fact's position in its service's log. The relay finds its resume position by the last one in the stream."""

DERIVED: Final = frozenset({"asyncapi", "wire"})
"""Modules of contracts/ that derive from all the others. Each of the others is searched for facts and a step."""


def said_by(name: str) -> str:
    """The service that says the fact of this name."""
    return name.partition(".")[0]


def _facts(module: ModuleType) -> list[type[Fact]]:
    """The facts that a module declares, in its order. Raises TypeError for a fact of another service."""
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
"""The steps that services declare, in the order of the saga."""

SERVICES: Final = tuple(
    dict.fromkeys(
        [
            said_by(fact_name(OrderCreatedPending)),
            *(step.service for step in STEPS.awaited + STEPS.following),
            *_DECLARED,
        ]
    )
)
"""The services that say facts: order, the services with a step in the order of the saga, then all others by name."""

FACTS: Final[dict[str, type[Fact]]] = {fact_name(fact): fact for service in SERVICES for fact in _DECLARED[service]}
"""Fact name → type, of every fact there is."""

NAMES: Final[dict[type[Fact], str]] = {fact: name for name, fact in FACTS.items()}
"""Type → fact name: NATS subject, JSON `type` and stored topic."""

COMPENSATIONS: Final = frozenset(
    NAMES[fact] for step in STEPS.awaited + STEPS.following for fact in (step.undone, *step.returned)
)
"""Names of the facts that undo a step."""

_any_fact: Any = reduce(or_, FACTS.values())
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(_any_fact)
_keys: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("_Keys", [(key, str | None, "") for key in sorted({fact.key_field for fact in NAMES})])
)
"""Just the ids of a body: decoding these alone costs a fraction of decoding the fact."""


def encode(fact: Fact) -> bytes:
    """The body of a fact: UTF-8 JSON on one line."""
    return _encoder.encode(fact)


def decode(body: bytes) -> Fact:
    """The fact in a body.

    Unknown fields are ignored: they come from newer code. Raises msgspec.DecodeError for a body that is not JSON, and
    its subclass msgspec.ValidationError for an unknown `type` or a field that breaks the contract.
    """
    return _decoder.decode(body)


def fact_id(stream: str, version: int) -> str:
    """The id of the fact at this version (from 1) of this stream."""
    return f"{stream}@{version}"


def subject(name: str, body: bytes) -> str:
    """The subject a stored fact is published under: `<fact>.<key>`."""
    return f"{name}.{getattr(_keys.decode(body), FACTS[name].key_field)}"
