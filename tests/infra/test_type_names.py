"""A public type's name means one thing in the whole product."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

EACH_DOMAIN_S_OWN = frozenset({"Command", "Event", "State", "Earlier", "Use", "UseReaction"})
"""Every aggregate has a Command, an Event and a State, and may have Earlier events, which its streams once had. Each
step that uses something of a customer's has a Use; that, and what takes it back, are UseReactions."""


def declared() -> dict[str, set[str]]:
    """Name → modules that declare a public class or type alias of this name."""
    found: dict[str, set[str]] = defaultdict(set)
    for folder in (ROOT / "contracts", ROOT / "infra", ROOT / "ops", *ROOT.glob("*_svc")):
        for path in folder.rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                for name in names(node):
                    found[name].add(str(path.relative_to(ROOT)))
    return found


def names(node: ast.stmt) -> list[str]:
    """The class that a statement declares, or the names that it gives to types."""
    if isinstance(node, ast.ClassDef):
        return [] if node.name.startswith("_") else [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    found = [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in found if name[0].isupper() and not name.isupper()]


def test_no_public_type_name_means_two_things() -> None:
    found = declared()

    assert len(found) > 250
    assert {
        name: sorted(where) for name, where in found.items() if len(where) > 1 and name not in EACH_DOMAIN_S_OWN
    } == {}
