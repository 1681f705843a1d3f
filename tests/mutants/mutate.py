"""Makes the mutants of a module: mutmut's operators and two more, without the changes that can make no difference.

mutmut's own runner keeps all mutants of a function beside it in its module. It leaves out decorated functions, class
bodies and module constants, and it adds attributes to classes; most of contracts/ is just that. So only its operators
are used here, and each mutant is a module of its own.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final, NamedTuple

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

LOG: Final = re.compile(r"_?log(ger|ging)?\Z")
LEVELS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
SENTENCE: Final = re.compile(r"[\"'][A-Z].* .*\.[\"']\Z", re.DOTALL)
UNMUTATED_CALLS: Final = frozenset({"len", "isinstance", "issubclass", "cast", "assert_never", "TypeVar", "NewType"})
UNMUTATED_ARGUMENTS: Final = frozenset({"gc", "frozen", "kw_only", "strict"})
"""How memory is freed; what mypy refuses; how code writes a call; what is an error anyway, such as two lengths."""
DOCUMENTATION: Final = frozenset({"description", "summary", "title", "help", "doc"})
"""Keyword arguments whose texts are for people."""


@dataclass(frozen=True)
class Mutant:
    """One change of one module. Lines are those of the unchanged module, from 1."""

    id: str
    """Names this change of this state of the module: a changed module has other mutants."""
    path: str
    where: str
    """The function or class around it, such as `Account.use`; empty in the module itself."""
    first: int
    last: int
    in_function: bool
    """Whether it runs when a function is called; otherwise when the module is imported."""
    was: str
    now: str
    make: Callable[[], str | None]
    """Makes the source of the whole changed module; None if it is no Python, or means the same as the unchanged one."""

    @property
    def name(self) -> str:
        """The change in one line. Two of one module may share it."""
        return f"{self.where or 'module'}: {self.was} → {self.now}"


def mutants(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a module, in the order of its lines. `path` is only their name."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _Visitor()
    wrapper.visit(visitor)
    module = wrapper.module

    def make(change: _Change) -> str | None:
        mutated = module.deep_replace(change.was, change.now)
        assert isinstance(mutated, cst.Module)
        try:
            return mutated.code if _meaning(mutated.code) != _meaning(source) else None
        except SyntaxError:
            return None

    def mutant(number: int, change: _Change) -> Mutant:
        name = sha256(f"{path} {number}\n{source}".encode()).hexdigest()[:10]
        was, now = _apart(*(_one_line(module.code_for_node(node)) for node in (change.was, change.now)))
        return Mutant(
            name, path, change.where, change.first, change.last, change.in_function, was, now, partial(make, change)
        )

    made = [mutant(number, change) for number, change in enumerate(visitor.changes)]
    return sorted(made, key=lambda one: one.first)


def _meaning(source: str) -> str:
    return ast.dump(ast.parse(source))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _apart(was: str, now: str) -> tuple[str, str]:
    """Cut long texts down to what differs, with some text around it."""
    if max(len(was), len(now)) <= 90:
        return was, now
    start = next((at for at, (one, other) in enumerate(zip(was, now, strict=False)) if one != other), 0)
    start = max(0, start - 30)
    return was[start : start + 90], now[start : start + 90]


class _Change(NamedTuple):
    was: cst.CSTNode
    now: cst.CSTNode
    where: str
    first: int
    last: int
    in_function: bool


class _Visitor(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[_Change] = []
        self._around: list[cst.CSTNode] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _makes_no_difference(node, self._around):
            return False
        for now in _changed(node, self._around):
            self.changes.append(self._change(node, now))
        self._around.append(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._around and self._around[-1] is original_node:
            self._around.pop()

    def _change(self, was: cst.CSTNode, now: cst.CSTNode) -> _Change:
        names = [node.name.value for node in self._around if isinstance(node, cst.FunctionDef | cst.ClassDef)]
        statements = [node for node in self._around if isinstance(node, cst.SimpleStatementLine)]
        places: list[CodeRange] = [
            place
            for node in (was, *self._around[-1:], *statements)
            if not isinstance(node, cst.Module | cst.IndentedBlock | cst.FunctionDef | cst.ClassDef)
            and isinstance(place := self.get_metadata(PositionProvider, node, None), CodeRange)
        ]
        first, last = min(place.start.line for place in places), max(place.end.line for place in places)
        body = any(isinstance(node, cst.FunctionDef) for node in self._around)
        default = any(isinstance(node, cst.Parameters) for node in self._around)
        return _Change(was, now, ".".join(names), first, last, body and not default)


def _changed(node: cst.CSTNode, around: Sequence[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if not isinstance(node, kind):
            continue
        found: Iterable[cst.CSTNode] = operator(node)
        if operator is operator_string:
            found = list(found)[:1]  # three spellings of one change
        if isinstance(node, cst.Call):
            found = [now for now in found if not isinstance(now, cst.Call) or _counted(now) != _counted(node)]
        if isinstance(node, cst.Match):
            never = [case for case in node.cases if _never_runs(case)]
            found = [now for now in found if isinstance(now, cst.Match) and all(case in now.cases for case in never)]
        yield from found
    yield from _removed(node)
    yield from _negated(node)


def _counted(call: cst.Call) -> tuple[cst.BaseExpression, list[int]]:
    """What a call does: which function, with which arguments of those that make a difference."""
    return call.func, [id(arg) for arg in call.args if not (arg.keyword and arg.keyword.value in UNMUTATED_ARGUMENTS)]


def _removed(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A call, `raise` or `del` that stands alone is taken away."""
    match node:
        case cst.Expr(value=cst.Call(func=cst.Name(value="assert_never"))):
            return
        case cst.Expr(value=cst.Call() | cst.Await()) | cst.Raise() | cst.Del():
            yield cst.Pass()


def _negated(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A condition is turned round, unless another operator turns it round already."""
    match node:
        case cst.If(test=test) | cst.CompIf(test=test) if not isinstance(test, cst.Comparison | cst.UnaryOperation):
            inner = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
            yield node.with_changes(test=cst.UnaryOperation(cst.Not(), inner))


def _makes_no_difference(node: cst.CSTNode, around: Sequence[cst.CSTNode]) -> bool:
    """Whether changes of this node, or in it, make a difference only to a reader or a type checker."""
    match node:
        case cst.Expr(value=cst.SimpleString() | cst.ConcatenatedString()):  # a docstring
            return True
        case cst.BinaryOperation(operator=cst.BitOr()) if not any(
            isinstance(outer, cst.FunctionDef) for outer in around
        ):
            return True  # types
        case cst.Annotation() | cst.Decorator() | cst.Assert() | cst.ImportFrom() | cst.Import():
            return True
        case cst.FunctionDef(name=cst.Name(value="__repr__")):
            return True
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value="__all__"))]):
            return True
        case cst.If(test=cst.Name(value="TYPE_CHECKING")):
            return True
        case cst.If(test=cst.Comparison(left=cst.Name(value="__name__"))):
            return True
        case cst.Call(func=cst.Name(value=name)) if name in UNMUTATED_CALLS:
            return True
        case cst.Arg(keyword=cst.Name(value=name)) if name in UNMUTATED_ARGUMENTS:
            return True
        case cst.Arg(keyword=cst.Name(value=name)) if name in DOCUMENTATION:
            return True
        case cst.SimpleString(value=text) if SENTENCE.match(text):
            return True
        case cst.SimpleString() | cst.ConcatenatedString():  # the text of an error
            return any(isinstance(outer, cst.Raise) for outer in around)
        case cst.Call():
            return _logs(node)
    return False


def _logs(call: cst.Call) -> bool:
    """Whether this writes a line of the log: its texts are for people. Taking the whole line away is a mutant."""
    match call.func:
        case cst.Attribute(
            value=cst.Name(value=of) | cst.Attribute(attr=cst.Name(value=of)), attr=cst.Name(value=level)
        ):
            return level in LEVELS and LOG.match(of) is not None
    return False


def _never_runs(case: cst.MatchCase) -> bool:
    """Whether this case stands only for the type checker: `case _: assert_never(command)`."""
    match case.body.body:
        case [cst.SimpleStatementLine(body=[cst.Expr(value=cst.Call(func=cst.Name(value="assert_never")))])]:
            return True
    return False
