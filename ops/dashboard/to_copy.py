"""What a person may want to copy of a fact or an order: commands for a shell, and where the order's trace is. Pure."""

from collections.abc import Collection, Sequence

from contracts.ids import is_id
from contracts.spans import trace_id
from infra.broker.numbering import generation_of, stream_of_sequence
from infra.core.decider import category
from infra.local.dashboard import TRACE_ID
from ops.at import WORDS
from ops.seen_facts import SeenFact
from ops.trace import STOPPING


def commands(fact: SeenFact, categories: Collection[str], generations: Sequence[int] = ()) -> list[str]:
    """Return commands that show the fact as the stream has it, and the state of the fact's stream just after it.

    Left out: the former, if its sequence is 0 or the broker lacks its generation; the latter, if its position is 0 or
    this code does not fold its stream. A fact that refused, fenced or canceled has `just what-if`, too: it decides
    again with this checkout's code. `categories`: those of the streams that this code folds. `generations`: those that
    the broker has; empty: not known, so none counts as lacking.
    """
    found = []
    if fact.sequence and (not generations or generation_of(fact.sequence) in generations):
        found.append(message_command(fact.sequence))
    stream, _ = fact.stream_version
    if fact.position and category(stream) in categories:
        found.append(state_command(stream, fact.position))
    if fact.name in STOPPING:
        found.append("just what-if")
    return [one for one in found if one]


def message_command(sequence: int) -> str:
    """Return the command that shows a message of the stream; empty for 0, which is none."""
    return f"nats stream get {stream_of_sequence(sequence)} {sequence}" if sequence else ""


def state_command(stream: str, position: int) -> str:
    """Return the `just at` command for the state of an aggregate's stream as of a position of its service's log.

    Empty if the part of the stream's name after its category is no id.
    """
    kind, _, key = stream.partition("-")
    return f"just at {WORDS.get(kind, kind)} {key} --position {position}" if is_id(key) else ""


def trace_address(template: str, order_id: str) -> str:
    """Return the URL of an order's trace: `template` with the trace's id (32 hexadecimal digits) in place of TRACE_ID.

    Returns an empty text for an empty template.
    """
    return template.replace(TRACE_ID, f"{trace_id(order_id):032x}")
