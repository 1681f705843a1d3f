"""The command `orders flow`: takes the flow from the code, and shows it."""

import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import msgspec
import rich_click as click
from rich.table import Table
from rich.text import Text

from contracts.asyncapi import as_text, service_document
from contracts.fact import Fact
from contracts.step import fact_name
from contracts.wire import COMPENSATIONS, FACTS, STEPS
from infra.core.decider import no_command
from infra.local.services import ROOT, service_names
from infra.process.build import installed_version
from infra.process.service import Service
from ops.cli import ending_well
from ops.errors import Found, Unusable
from ops.flow.choreography import Act, Part, Rules, StepFacts, findings
from ops.output import print_line, print_out

PAGE: Final = ROOT / "docs" / "choreography.md"
BLOCK: Final = re.compile(r"(?<=<!-- flow:begin -->\n).*?(?=<!-- flow:end -->)", re.DOTALL)
"""Finds the text between the markers of a page."""


RULES: Final = Rules(
    facts=FACTS,
    steps=[
        StepFacts(
            step.service,
            hears=fact_name(step.hears),
            done=fact_name(step.done),
            undone=fact_name(step.undone),
            fenced=fact_name(step.fenced),
            refused="" if step.refused is None else fact_name(step.refused),
        )
        for step in STEPS.awaited + STEPS.following
    ],
    compensations=COMPENSATIONS,
    by_client=[name for name, fact in FACTS.items() if fact.by_client],
)
"""The declarations of the flow in contracts/."""
ENDS_BADLY: Final = frozenset({*RULES.failures, *RULES.withdrawals})


# From the code --------------------------------------------------------------------------------------------------------


def parts() -> list[Part]:
    """Import all services and return the part of each, as `part` does."""
    return [part(pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE")) for name in service_names()]


def part(service: Service) -> Part:
    """Return a service's part in the flow, from its table of reactions and the types that its aggregates take."""
    aggregates = service.aggregates.values()
    deciding = (aggregate.decide for aggregate in aggregates if aggregate.decide is not no_command)
    commands = _types(deciding, 0)
    heard: dict[Any, list[str]] = {command: [] for command in commands}
    unmatched: list[str] = []
    for fact, reaction in service.reactions.items():
        heard.get(reaction, unmatched).append(_name(fact))
    return Part(
        service.name,
        tuple(_act(command, heard[command]) for command in commands),
        frozenset(_names(_types((aggregate.evolve for aggregate in aggregates), 1))),
        tuple(unmatched),
    )


def _act(command: Any, hears: Iterable[str]) -> Act:
    takes = _members(get_type_hints(command).get("fact"))
    return Act(command.__name__, tuple(hears), _names(takes), _names(getattr(command, "says", ())))


def _types(functions: Iterable[Callable[..., Any]], parameter: int) -> list[Any]:
    """Return the types that the parameter at this index (from 0) may have in any of these functions, each once."""
    hints = [list(get_type_hints(function).values())[parameter] for function in functions]
    return list(dict.fromkeys(kind for hint in hints for kind in _members(hint)))


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type that is not a union; none if the hint is None."""
    return get_args(hint) or (() if hint is None else (hint,))


def _names(facts: Iterable[type[Fact]]) -> tuple[str, ...]:
    return tuple(map(_name, facts))


def _name(fact: type[Fact]) -> str:
    """Return the fact's name from its tag. So a fact that contracts.wire does not list is a finding, not a crash."""
    return str(fact.__struct_config__.tag)


# Output ---------------------------------------------------------------------------------------------------------------


def table(flow: Iterable[Part]) -> Table:
    """Return the flow as a table for a person. Compensations are red; refusals and withdrawals are yellow."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("service", "hears", "does", "may say"):
        made.add_column(column)
    for one in flow:
        for act in one.acts:
            service = one.service if act is one.acts[0] else ""
            made.add_row(service, _coloured(act.hears), act.command, _coloured(act.says))
    return made


def _coloured(facts: Iterable[str]) -> Text:
    return Text("\n").join(Text(fact, _style(fact)) for fact in facts)


def _style(fact: str) -> str:
    if fact in COMPENSATIONS:
        return "red"
    return "yellow" if fact in ENDS_BADLY else ""


def markdown(flow: Iterable[Part]) -> str:
    """Return a Markdown table, a row for each command: the facts it hears, and the subjects of those it may say."""
    rows = [
        f"| {f'`{one.service}_svc`' if act is one.acts[0] else ''} "
        f"| {_lines(f'`{fact}`' for fact in act.hears) or '—'} | {act.command} | {_lines(map(_subject, act.says))} |"
        for one in flow
        for act in one.acts
    ]
    return "\n".join(["| service | hears | does | may say |", "| --- | --- | --- | --- |", *rows]) + "\n"


def _lines(texts: Iterable[str]) -> str:
    return "<br>".join(texts)


def _subject(fact: str) -> str:
    key = f".<{FACTS[fact].key_field}>" if fact in FACTS else ""
    return f"{'↩ ' if fact in COMPENSATIONS else ''}`{fact}{key}`"


def mermaid(flow: Iterable[Part]) -> str:
    """Return a Mermaid flowchart: each service's facts, with arrows from what leads there.

    That is a fact, or a command of a client or the clock. Arrows to compensations are dotted, and compensations red.
    """
    boxes, arrows, undone = [], [], []
    for one in flow:
        said = dict.fromkeys(fact for act in one.acts for fact in act.says)
        asked = [act.command for act in one.acts if not act.hears]
        boxes += [
            f"    subgraph {one.service}_svc",
            *(f'        {one.service}_{command}(["{command}"])' for command in asked),
            *(f'        {_node(fact)}["{fact}"]' for fact in said),
            "    end",
        ]
        arrows += [arrow for act in one.acts for arrow in _arrows(one.service, act)]
        undone += [_node(fact) for fact in said if fact in COMPENSATIONS]
    style = ["    classDef undone stroke:#c00,color:#c00", f"    class {','.join(undone)} undone"] if undone else []
    return "\n".join(["flowchart LR", *boxes, *arrows, *style])


def _arrows(service: str, act: Act) -> Iterator[str]:
    undone = [_node(fact) for fact in act.says if fact in COMPENSATIONS]
    done = [_node(fact) for fact in act.says if fact not in COMPENSATIONS]
    label = f"|{act.command}|" if act.hears else ""
    for source in map(_node, act.hears) if act.hears else [f"{service}_{act.command}"]:
        for arrow, facts in (("-->", done), ("-.->", undone)):
            if facts:
                yield f"    {source} {arrow}{label} {' & '.join(facts)}"


def _node(fact: str) -> str:
    return fact.replace(".", "_")


def as_json(flow: Sequence[Part], found: Sequence[str]) -> str:
    """Return the flow as JSON text.

    `services`: each with its commands. `facts`: each with the services that say and hear it, and the facts that may
    follow. `findings`: the sentences in `found`.
    """
    services = [
        {
            "service": one.service,
            "does": [{"command": act.command, "hears": act.hears, "says": act.says} for act in one.acts],
        }
        for one in flow
    ]
    facts = [
        {
            "fact": fact,
            "key": kind.key_field,
            "compensation": fact in COMPENSATIONS,
            "said_by": [one.service for one in flow if any(fact in act.says for act in one.acts)],
            "heard_by": [one.service for one in flow if any(fact in act.hears for act in one.acts)],
            "leads_to": [said for one in flow for act in one.acts if fact in act.hears for said in act.says],
        }
        for fact, kind in FACTS.items()
    ]
    return msgspec.json.encode({"services": services, "facts": facts, "findings": found}).decode()


def write(path: Path, block: str) -> None:
    """Replace the text between the markers of this page by the block. Raises Found if page or markers are missing."""
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    if not BLOCK.search(page):
        raise Found(f"{path} has no lines <!-- flow:begin --> and <!-- flow:end --> to put the table between")
    path.write_text(BLOCK.sub(lambda _: block, page), encoding="utf-8")


@click.command("flow")
@click.option("--markdown", "how", flag_value="markdown", help="The table of docs/choreography.md.")
@click.option("--mermaid", "how", flag_value="mermaid", help="A flowchart, for a page that draws Mermaid.")
@click.option("--json", "how", flag_value="json", help="For machines: services, facts and findings.")
@click.option("--asyncapi", metavar="SERVICE", help="The AsyncAPI document of one service, such as order.")
@click.option(
    "--write", "how", flag_value="write", help="Put the table into docs/choreography.md; nothing if there is a finding."
)
@ending_well
def command(how: str | None, asyncapi: str | None) -> None:
    """Show each service's commands, the facts it hears and the facts it may say. It reads the code alone.

    A command without a fact that it hears comes from a client or from the clock. Compensations are red. No service
    needs to run.

    Findings (exit code 1) are: a cycle; a fact that no service says, that another service should say, that no aggregate
    folds, or that is not declared; a command that says nothing; a table of reactions that does not fit the commands; a
    step not taken as declared; a fact without a cause that no client may cause; a failure or a withdrawal after which a
    service does not undo its part. The exit code is 1, too, if --write finds no page or no markers in it.
    """
    flow = parts()
    if asyncapi is None:
        show(flow, how)
    else:
        print_line(asyncapi_of(flow, asyncapi.removesuffix("_svc")), flush=True)


def asyncapi_of(flow: Sequence[Part], service: str) -> bytes:
    """Return the AsyncAPI document of a service, as JSON text. Raises Unusable if there is no such service."""
    part = next((one for one in flow if one.service == service), None)
    if part is None:
        raise Unusable(f"there is no service {service}; there are: {', '.join(one.service for one in flow)}")
    hears = {fact for act in part.acts for fact in act.hears}
    return as_text(service_document(service, hears, installed_version()))


def show(flow: Sequence[Part], how: str | None, page: Path = PAGE) -> None:
    """Print the flow as `how` says (markdown, mermaid, json; None: as a table). Raises Found if there are findings.

    `how` is write: print nothing, but put the Markdown table into this page, unless there are findings. Raises Found,
    too, if the page or its markers are missing then.
    """
    found = findings(flow, RULES)
    if how == "write":
        if not found:
            write(page, markdown(flow))
    elif how == "json":
        print_out(as_json(flow, found))
    elif how is None:
        print_out(table(flow))
    else:
        print_out({"markdown": markdown, "mermaid": mermaid}[how](flow).rstrip())
    if found:
        raise Found("\n".join(found))
