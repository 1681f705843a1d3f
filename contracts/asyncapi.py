"""Describes the facts in an AsyncAPI 3.1 document, docs/asyncapi.json. `python -m contracts.asyncapi` prints it."""

import inspect
import sys
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


def render() -> bytes:
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(render())
