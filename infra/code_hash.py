"""A hash of the code that makes a cached value, so that a value made by other code is recognised and made again.

The hash covers a function or class and, transitively, every definition that it names in `contracts`, `infra` or the
top-level package of a root: helpers, constants, base classes, facts. An import inside a function is not followed.
Comments, docstrings and layout do not count, nor do other packages and libraries.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

SHARED: Final = ("contracts", "infra")  # what services and ops build on


class _Name(NamedTuple):
    module: str
    name: str


class _Module(NamedTuple):
    definitions: dict[str, list[ast.stmt]]
    """Top-level name → the statements that define it."""
    imports: dict[str, str]
    """Local name → the full name of the module, or of the module's member."""


def code_hash(*roots: Any) -> str:
    """Return 12 hex digits: a hash of these functions or classes and of what the module's docstring adds.

    Reads their source files. Each root must be defined at the top level of a module.
    """
    packages = {root.__module__.partition(".")[0] for root in roots} | set(SHARED)
    found: dict[_Name, str] = {}
    todo = [_Name(root.__module__, root.__qualname__.partition(".")[0]) for root in roots]
    while todo:
        at = todo.pop()
        if at in found or at.module.partition(".")[0] not in packages:
            continue
        module = _read(at.module)
        if at.name in module.definitions:
            nodes = module.definitions[at.name]
            found[at] = "\n".join(ast.unparse(node) for node in nodes)
            for node in nodes:
                todo += _used(node, at.module, module)
        elif at.name in module.imports:  # passed on: `from contracts.wire import decode as decode`
            before, _, name = module.imports[at.name].rpartition(".")
            todo.append(_Name(before, name))
    text = "\n".join(f"{at.module}.{at.name}\n{source}" for at, source in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _used(node: ast.stmt, name: str, module: _Module) -> Iterator[_Name]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield _Name(name, part.id)
        elif isinstance(part, ast.Attribute):
            first, _, rest = ast.unparse(part).partition(".")
            if first in module.imports:
                before, _, attribute = f"{module.imports[first]}.{rest}".rpartition(".")
                yield _Name(before, attribute)


@cache
def _read(name: str) -> _Module:
    module = _Module({}, {})
    file = _file(name)
    if file is not None:
        for statement in _without_docstrings(ast.parse(file.read_bytes())).body:
            for node in _flat(statement):
                _take(node, module)
    return module


def _file(name: str) -> Path | None:
    loaded = sys.modules.get(name)
    origin = getattr(loaded, "__file__", None)
    if origin is None:
        try:
            spec = find_spec(name)
        except (ModuleNotFoundError, ValueError):  # a class, not a module
            return None
        origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _flat(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Yield the statement, or those in its branches if it is a condition, a `try` or a `with`."""
    if isinstance(statement, ast.If | ast.Try | ast.With):
        for part in ast.iter_child_nodes(statement):
            for inner in part.body if isinstance(part, ast.ExceptHandler) else [part]:
                if isinstance(inner, ast.stmt):
                    yield from _flat(inner)
    else:
        yield statement


def _take(node: ast.stmt, module: _Module) -> None:
    match node:
        case ast.ImportFrom(module=str(source), level=0):
            module.imports.update({alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names})
        case ast.Import():
            for alias in node.names:
                module.imports[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            module.definitions.setdefault(node.name, []).append(node)
        case _:
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    module.definitions.setdefault(part.id, []).append(node)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
