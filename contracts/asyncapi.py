"""Describes the facts in an AsyncAPI 3.1 document, docs/asyncapi.json. `python -m contracts.asyncapi` prints it."""

import inspect
import sys
from collections.abc import Collection
from typing import Any, Final

import msgspec

from contracts.wire import FACTS, MSG_ID, POSITION, RESENT, STREAM, VERSION, said_by

REFERENCE: Final = "#/components/schemas/{name}"

HEADERS: Final = {
    MSG_ID: "The fact's id: stream and version. JetStream refuses a second one inside its duplicate window.",
    STREAM: "The event stream (aggregate) the fact is part of.",
    VERSION: "The fact's version in that stream, from 1.",
    POSITION: "The fact's position in the log of the service that says it.",
}
ALL_HEADERS: Final = HEADERS | {
    RESENT: "`true` if the stream had lost the fact, and its service published it again behind later ones.",
}


def document() -> dict[str, Any]:
    """Build the AsyncAPI document, ready for JSON.

    For every fact it has a channel, a message, and a `send` operation tagged with the service that says the fact.
    """
    facts = list(FACTS.items())
    schemas, components = msgspec.json.schema_components([fact for _, fact in facts], ref_template=REFERENCE)
    for component in components.values():
        if "description" in component:  # a docstring: Python 3.13 takes its indentation away, older versions keep it
            component["description"] = inspect.cleandoc(component["description"])
    channels, operations, messages = {}, {}, {}
    for (name, fact), schema in zip(facts, schemas, strict=True):
        title = fact.__name__
        summary = (fact.__doc__ or "").strip().splitlines()[0]
        messages[title] = {
            "name": name,
            "title": title,
            "summary": summary,
            "contentType": "application/json",
            "headers": {"$ref": REFERENCE.format(name="Headers")},
            "payload": schema,
        }
        channels[title] = {
            "address": f"{name}.{{{fact.key_field}}}",
            "parameters": {fact.key_field: {"description": "An id: 1 to 64 letters, digits, `_` or `-`."}},
            "messages": {title: {"$ref": f"#/components/messages/{title}"}},
        }
        operations[title] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{title}"},
            "summary": summary,
            "tags": [{"name": f"{said_by(name)}_svc"}],
        }
    components["Headers"] = {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in ALL_HEADERS.items()},
        "required": list(HEADERS),
    }
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Facts of the order saga",
            "version": "1",
            "description": "What the services say on the stream EVENTS.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": components},
    }


def service_document(service: str, hears: Collection[str], version: str) -> dict[str, Any]:
    """Build the AsyncAPI document of one service, ready for JSON: it sends what it says, and receives what it hears.

    `service`: without `_svc`. `hears`: names of facts. `version`: the service's. The fields `x-eventcatalog-...` are
    those of EventCatalog, which reads one document for each service.
    """
    whole = document()
    said = {fact.__name__ for name, fact in FACTS.items() if said_by(name) == service}
    heard = {fact.__name__ for name, fact in FACTS.items() if name in hears}
    titles = [title for title in whole["channels"] if title in said | heard]
    for title in titles:
        role = "provider" if title in said else "client"
        whole["components"]["messages"][title] |= {
            "x-eventcatalog-message-type": "event",
            "x-eventcatalog-role": role,
        }
    sent = {title: whole["operations"][title] for title in titles if title in said}
    received = {
        f"on{title}": {**whole["operations"][title], "action": "receive", "tags": [{"name": f"{service}_svc"}]}
        for title in titles
        if title in heard
    }
    messages = {title: whole["components"]["messages"][title] for title in titles}
    return whole | {
        "info": {
            "title": f"{service}_svc",
            "version": version,
            "description": f"What {service}_svc says and hears on the stream EVENTS.",
        },
        "channels": {title: whole["channels"][title] for title in titles},
        "operations": sent | received,
        "components": {"messages": messages, "schemas": _needed(messages, whole["components"]["schemas"])},
    }


def _needed(messages: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas that these messages, and these schemas in turn, name."""
    found: set[str] = set()
    waiting: list[Any] = [messages]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name in schemas and name not in found:
                found.add(name)
                waiting.append(schemas[name])
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return {name: schema for name, schema in schemas.items() if name in found}


def as_text(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def render() -> bytes:
    return as_text(document())


if __name__ == "__main__":
    sys.stdout.buffer.write(render())
