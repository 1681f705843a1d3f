"""What changes the hash of code that makes a cached value, and what does not."""

import hashlib
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra import code_hash as hashing
from infra.code_hash import code_hash

Edited = Callable[[str, str], str]

DOMAIN = '''"""Folds."""
from {package}.prices import PRICES
from {package} import rates
import {package}.names
from contracts.fact import Fact

class Base:
    """A base."""
    step = 1

class State(Base):
    total: int = 0

if True:
    def doubled(n):
        return n * 2  # twice

def evolve(state, fact):
    """Fold a fact."""
    state.total += doubled(PRICES[fact]) * rates.RATE + len({package}.names.NAMES)

def unused(n):
    return n
'''

_numbers = itertools.count()


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edited]:
    """The hash of `evolve` and `State` in a package of several modules, after one edit of its files."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def hash_after(old: str, new: str) -> str:
        package = f"folding_{next(_numbers)}"
        made.append(package)
        folder = tmp_path / package
        folder.mkdir()
        files = {
            "__init__.py": "",
            "domain.py": DOMAIN.format(package=package),
            "prices.py": "PRICES = {'a': 1}\nOTHER = 7\n",
            "rates.py": "try:\n    RATE = 3\nexcept ImportError:\n    RATE = 4\n",
            "names.py": "NAMES: tuple = ('x',)\n",
        }
        assert not old or sum(text.count(old) for text in files.values()) == 1
        for name, text in files.items():
            (folder / name).write_text(text.replace(old, new) if old else text)
        importlib.invalidate_caches()
        domain = importlib.import_module(f"{package}.domain")
        # The package's name is in the hash: let all be the same one.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hashing, "hashlib", _Renamed(package))
            return code_hash(domain.evolve, domain.State)

    yield hash_after
    for package in made:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]


class _Renamed:
    def __init__(self, package: str) -> None:
        self._package = package

    def sha256(self, text: bytes) -> object:
        return hashlib.sha256(text.replace(self._package.encode(), b"folding"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("doubled(PRICES", "(PRICES"),
        ("n * 2 ", "n * 3 "),
        ("step = 1", "step = 2"),
        ("total: int = 0", "total: int = 1"),
        ("{'a': 1}", "{'a': 2}"),
        ("RATE = 3", "RATE = 5"),
        ("('x',)", "('x', 'y')"),
    ],
)
def test_every_definition_that_is_used_counts(edited: Edited, old: str, new: str) -> None:
    assert edited(old, new) != edited("", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# twice", "# two times"),
        ('"""Fold a fact."""', '"""Fold."""'),
        ('"""A base."""', '"""Base."""'),
        ("return n\n", "return n + 1\n"),
        ("OTHER = 7", "OTHER = 8"),
        ("return n * 2 ", "return (n   *   2) "),
    ],
)
def test_what_is_not_used_and_what_is_not_code_does_not_count(edited: Edited, old: str, new: str) -> None:
    assert edited(old, new) == edited("", "")
