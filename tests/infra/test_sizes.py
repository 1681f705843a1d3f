"""Nothing grows too long to be read in one go: modules of infra, domain files, functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MOST_LINES_OF_A_MODULE = 250
MOST_LINES_OF_A_DOMAIN_FILE = 150
MOST_LINES_OF_A_FUNCTION = 50

PRODUCT = [
    path
    for folder in (ROOT / "contracts", ROOT / "infra", ROOT / "ops", ROOT / "bench", *sorted(ROOT.glob("*_svc")))
    for path in sorted(folder.rglob("*.py"))
]


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function of a module, where it begins, and its number of lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_no_module_of_infra_is_too_long() -> None:
    found = {str(path.relative_to(ROOT)): lines(path) for path in PRODUCT if path.is_relative_to(ROOT / "infra")}

    assert len(found) > 40
    assert {name: count for name, count in found.items() if count > MOST_LINES_OF_A_MODULE} == {}


def test_no_domain_file_is_too_long() -> None:
    domains = [*ROOT.glob("*_svc/domain.py"), *ROOT.glob("*_svc/domain/*.py")]

    assert len(domains) >= 5
    assert {path: lines(path) for path in domains if lines(path) > MOST_LINES_OF_A_DOMAIN_FILE} == {}


def test_no_function_is_too_long() -> None:
    found = [function for path in PRODUCT for function in functions(path)]

    assert len(found) > 500
    assert [(name, count) for name, count in found if count > MOST_LINES_OF_A_FUNCTION] == []
