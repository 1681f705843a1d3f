"""`python -m ops.rooms`: draw into docs/architecture.md which part of the code imports which other parts."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from infra.local.services import ROOT

PAGE: Final = ROOT / "docs" / "architecture.md"
BLOCK: Final = re.compile(r"(?<=<!-- rooms:begin -->\n).*?(?=<!-- rooms:end -->)", re.DOTALL)

Edges = Mapping[str, set[str]]


def part(module: str) -> str:
    """Return the part of the code to which a module of this dotted name belongs.

    Parts are: each folder of infra; `base`, the modules directly in infra; `services`, all services as one; and each
    other package.
    """
    package, _, rest = module.partition(".")
    if package.endswith("_svc"):
        return "services"
    if package == "infra":
        room = rest.partition(".")[0]
        return room if (ROOT / "infra" / room).is_dir() and room else "base"
    return package


def edges() -> dict[str, set[str]]:
    """Read the imports of contracts, infra, ops and all services; map each part to the other parts that it imports.

    For the parts see `part`. Imports of other packages, such as libraries, are left out.
    """
    found: dict[str, set[str]] = {}
    for folder in ("contracts", "infra", "ops", *sorted(path.name for path in ROOT.glob("*_svc"))):
        for path in sorted((ROOT / folder).rglob("*.py")):
            own = part(".".join(path.relative_to(ROOT).with_suffix("").parts))
            targets = {part(name) for name in _imported(path)}
            found.setdefault(own, set()).update(targets - {own})
    parts = set(found)
    return {own: targets & parts for own, targets in found.items()}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from infra.broker import relay` imports the module infra.broker.relay: its room is the same.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reduced(graph: Edges) -> dict[str, set[str]]:
    """Return the graph without the arrows that a longer way implies. The graph must have no cycle."""
    return {
        own: {target for target in targets if not any(target in _below(graph, other) for other in targets - {target})}
        for own, targets in graph.items()
    }


def _below(graph: Edges, own: str) -> set[str]:
    """Return every part that the part `own` imports, directly or through others."""
    seen: set[str] = set()
    waiting = [own]
    while waiting:
        for target in graph[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def mermaid(graph: Edges) -> str:
    """Return a Mermaid flowchart as a Markdown code block: an arrow leads from a part to one that it imports.

    Arrows that a longer way implies are left out.
    """
    rooms = sorted(room for room in graph if room == "base" or (ROOT / "infra" / room).is_dir())
    others = sorted(set(graph) - set(rooms))
    arrows = [
        f"    {own} --> {target}" for own, targets in sorted(reduced(graph).items()) for target in sorted(targets)
    ]
    boxes = [f'    {name}["{_label(name)}"]' for name in others]
    inner = [f'        {room}["{_label(room)}"]' for room in rooms]
    lines = ["flowchart TD", *boxes, "    subgraph infra", *inner, "    end", *arrows]
    return "\n".join(["```mermaid", *lines, "```"]) + "\n"


def _label(name: str) -> str:
    match name:
        case "services":
            return "order_svc, product_svc, point_svc, coupon_svc"
        case "base":
            return ", ".join(sorted(path.stem for path in (ROOT / "infra").glob("[!_]*.py")))
        case _:
            return f"{name}/"


def write(page: Path) -> None:
    """Put the flowchart of imports between the markers of this page. Raises LookupError if it has no markers."""
    text = page.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        raise LookupError(f"{page} has no lines <!-- rooms:begin --> and <!-- rooms:end --> to put the picture between")
    page.write_text(BLOCK.sub(lambda _: mermaid(edges()), text), encoding="utf-8")


if __name__ == "__main__":
    write(PAGE)
