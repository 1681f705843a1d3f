"""`python -m ops.flow`: who hears and says what, as a Markdown table, taken from the code."""

import argparse
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from contracts.wire import FACTS, NAMES, said_by
from infra import local
from infra.service import Service

README: Final = local.ROOT / "README.md"
BLOCK: Final = re.compile(r"(?<=<!-- flow:begin -->\n).*?(?=<!-- flow:end -->)", re.DOTALL)
"""What stands between the markers of a page."""


class Part(NamedTuple):
    """A service's part: the facts it hears, with the command each becomes; those it says, with their subjects' key."""

    service: str
    hears: Mapping[str, str]
    says: Mapping[str, str]


class NoBlock(Exception):
    """The page has no `<!-- flow:begin -->` and `<!-- flow:end -->` on lines of their own to put the table between."""


def parts() -> list[Part]:
    """Every service's part, from its table of reactions and the facts of contracts that bear its name."""
    return [
        Part(
            name,
            {NAMES[fact]: _name(reaction) for fact, reaction in _service(name).reactions.items()},
            {fact: kind.key_field for fact, kind in FACTS.items() if said_by(fact) == name},
        )
        for name in local.services()
    ]


def _service(name: str) -> Service:
    service = pkgutil.resolve_name(f"{name}_svc.__main__:SERVICE")
    assert isinstance(service, Service)
    return service


def _name(reaction: Callable[..., Any]) -> str:
    return getattr(reaction, "__name__", repr(reaction))


def markdown(flow: Sequence[Part]) -> str:
    """A table of one row a service: what it hears and does about it, and the subjects of what it says."""
    rows = [
        "| service | hears, and does | says |",
        "| --- | --- | --- |",
        *(
            f"| `{part.service}_svc` "
            f"| {_lines(f'`{fact}` → {command}' for fact, command in part.hears.items())} "
            f"| {_lines(f'`{fact}.<{key}>`' for fact, key in part.says.items())} |"
            for part in flow
        ),
    ]
    return "\n".join(rows) + "\n"


def _lines(texts: Iterable[str]) -> str:
    return "<br>".join(texts)


def with_block(page: str, block: str) -> str:
    """The page with this block between its markers. Raises NoBlock."""
    if not BLOCK.search(page):
        raise NoBlock
    return BLOCK.sub(lambda _: block, page)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.flow", description="Who hears and says what, from the code.")
    parser.add_argument("--write", action="store_true", help="put the table into README.md instead of printing it")
    asked = parser.parse_args(arguments)
    table = markdown(parts())
    if asked.write:
        write(README, table)
    else:
        print(table, end="")
    return 0


def write(path: Path, block: str) -> None:
    """Put the block into this page. Raises NoBlock."""
    path.write_text(with_block(path.read_text(encoding="utf-8"), block), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
