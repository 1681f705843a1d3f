"""One word for one thing: names in the code are standard or in the glossary, and retired words are nowhere.

A word of a public class or function is standard if it is in `words.txt`. Retired words had a private meaning, or made a
sentence a riddle; each is listed with the word to use instead.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from contracts.wire import FACTS
from tests.docs.pages import FENCE, PAGES, ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
STANDARD = frozenset((ROOT / "tests" / "docs" / "words.txt").read_text(encoding="utf-8").split())
STORY = frozenset({"keeps", "kept", "hears", "heard", "hearing", "says", "said", "say", "saying"})
"""Of the story at the top of each service, in every form."""

CODE = [
    path
    for folder in ["bench", "contracts", "infra", "ops", *sorted(path.name for path in ROOT.glob("*_svc"))]
    for path in sorted((ROOT / folder).rglob("*.py"))
]


class Named(NamedTuple):
    """A name that the code gives, and where."""

    where: str
    name: str


class Text(NamedTuple):
    """A line of prose: of a page, a comment, a docstring, or a text for operators and clients."""

    where: str
    line: str


# Standard words -------------------------------------------------------------------------------------------------------


def words(name: str) -> list[str]:
    """`SQLiteStore` → sqlite, store; `said_by` → said, by."""
    name = name.replace("SQLite", "Sqlite").replace("AsyncAPI", "Asyncapi")
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def public_names(path: Path) -> Iterator[Named]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield Named(f"{path.relative_to(ROOT)}:{node.lineno}", node.name)


def terms() -> set[str]:
    """The words of the glossary's English column, also in the plural."""
    rows = [line.split(" | ") for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    found = {word for cells in rows for word in re.findall(r"[a-z]+", cells[1])}
    return found | {f"{word}s" for word in found}


def published() -> set[str]:
    """The words of the facts' names, and the verbs that they are of: a service's own nouns and what it does."""
    found = {word for name in FACTS for word in name.split(".")}
    return found | {word.removesuffix("ed") for word in found}


def test_every_word_of_a_public_name_is_standard_or_in_the_glossary() -> None:
    known = STANDARD | STORY | terms() | published()
    unknown = [
        f"{where}: {name}: {', '.join(strange)}"
        for path in CODE
        if path.relative_to(ROOT).parts[0] != "bench"
        for where, name in public_names(path)
        if (strange := [word for word in words(name) if word not in known])
    ]

    advice = "use a standard word (add it to tests/docs/words.txt), or explain it in docs/glossary.md"
    assert not unknown, "\n".join([advice, *unknown])


def test_the_list_of_standard_words_is_sorted_and_has_none_of_the_glossary() -> None:
    listed = (ROOT / "tests" / "docs" / "words.txt").read_text(encoding="utf-8").split()

    assert listed == sorted(set(listed))
    assert sorted(set(listed) & terms()) == []


# Retired words --------------------------------------------------------------------------------------------------------

RETIRED_NAMES = {
    r"(^|_)ears?(_|$)|^Ear$": "Acknowledger",
    r"^Heard$": "Delivery",
    r"^Hearing$": "ConsumerSession",
    r"^Listener$": "Handler",
    r"^Marks?$|(^|_)marks?_(at|of)$": "StreamPosition, ReceivedPositions, ExportPosition",
    r"^Heads?$|^heads$": "StreamState, StateCache, states",
    r"^Letters?$": "DeadLetter, DeadLetters",
    r"(?i)park(ed|ing)?(_|$)": "RetryQueue, dead_letter",
    r"(?i)(^|_)doors?(_|$)": "AdmissionControl",
    r"(?i)under_?way": "in_flight",
    r"(?i)guess": "assume_new",
    r"^Recording$": "UnitOfWork",
    r"^Told$|^Asked$": "Delivered, Requested",
    r"(?i)shel(f|ves)": "a table of the checkpoint",
    r"^Shortcut$|(?i:shortcuts?)$": "FastPath",
    r"^Circuit$": "RetryPolicy",
}
"""A pattern of a name → what to use. Names of classes, functions, arguments and variables."""

RETIRED_WORDS = {
    r"\bwhoever\b": "name the person or the component",
    r"\bwhat (is|are) about\b": "messages about",
    r"\bas it (should|must) be\b": "well-formed, valid, expected",
    r"\bstands?\b(?! (for|in) )": "is, are",
    r"\bstands? in\b": "is in",
    r"\bwhat (came|comes|became) of\b": "the result, the end",
    r"\bneither hearing\b": "stopped",
    r"\bunder way\b": "in flight",
    r"\bpark(s|ed|ing)?\b": "dead-lettered, retry queue",
    r"\b(the|a) door\b": "admission control",
    r"(?<!dead )(?<!dead-)\bletters?\b(?!, digits)": "dead letter",
    r"\bguess(es|ed)?\b": "assume",
    r"\bshel(f|ves)\b": "a table of the checkpoint",
    r"\b(a|the) marks?\b": "stream position, export position",
    r"\bthe ears?\b|\ban ear\b": "acknowledger",
    r"\b(the|its|their) heads\b|\ba head is\b": "stream states",
}
"""A pattern of prose → what to use. Pages (but not their code), comments, docstrings, texts of the code."""

ALLOWED: dict[str, str] = {
    "ORDERS_UNDER_WAY": "the setting's name before, which order_svc refuses",
}
"""What a line may have all the same, and why."""


def all_names(path: Path) -> Iterator[Named]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield Named(f"{path.relative_to(ROOT)}:{node.lineno}", name)
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield Named(f"{path.relative_to(ROOT)}:{node.lineno}", name)


def texts_of_code(path: Path) -> Iterator[Text]:
    """Comments, docstrings and other strings of several words, line by line, without what f-strings put in."""
    source = path.read_text(encoding="utf-8")
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds and " " in token.string:
            for number, line in enumerate(token.string.splitlines()):
                yield Text(f"{path.relative_to(ROOT)}:{token.start[0] + number}", re.sub(r"{[^}]*}", "", line))


def texts_of_page(path: Path) -> Iterator[Text]:
    """Its prose, line by line, without code: fenced blocks and spans."""
    text = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), path.read_text(encoding="utf-8"))
    for number, line in enumerate(text.splitlines(), 1):
        yield Text(f"{path.relative_to(ROOT)}:{number}", re.sub(r"`[^`]*`|\]\([^)]*\)", "", line))


def found(lines: Iterable[Text]) -> list[str]:
    return [
        f"{where}: {hit[0]!r}, instead: {instead}"
        for where, line in lines
        if not any(allowed in line for allowed in ALLOWED)
        for pattern, instead in RETIRED_WORDS.items()
        if (hit := re.search(pattern, line, re.IGNORECASE))
    ]


def test_no_name_of_the_code_is_retired() -> None:
    retired = [
        f"{where}: {name}, instead: {instead}"
        for path in CODE
        for where, name in all_names(path)
        for pattern, instead in RETIRED_NAMES.items()
        if re.search(pattern, name.lstrip("_"))
    ]

    assert not retired, "\n".join(retired)


def test_no_text_of_the_code_has_a_retired_word() -> None:
    retired = found(text for path in CODE for text in texts_of_code(path))

    assert not retired, "\n".join(retired)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_has_a_retired_word(page: Path) -> None:
    retired = found(texts_of_page(page))

    assert not retired, "\n".join(retired)
