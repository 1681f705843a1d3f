"""What is mutated: the domains and contracts wholly, infra by a sample over its rooms."""

import math
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutants.mutate import Mutant, mutants


class Group(NamedTuple):
    """Modules whose mutants make one figure. `sample`: so many of them are drawn; None: all are tried."""

    name: str
    tests: tuple[str, ...]
    """Patterns of folders and files of tests."""
    modules: tuple[str, ...]
    """Patterns of their paths."""
    without: tuple[str, ...] = ()
    sample: int | None = None

    def paths(self, root: Path) -> list[Path]:
        left_out = {path for pattern in self.without for path in root.glob(pattern)}
        return sorted({path for pattern in self.modules for path in root.glob(pattern)} - left_out)

    def tested_by(self, tree: Path) -> list[str]:
        """The files of tests."""
        found = {
            path
            for pattern in self.tests
            for path in tree.glob(f"{pattern}/test_*.py" if pattern.endswith("**") else pattern)
        }
        return sorted(path.relative_to(tree).as_posix() for path in found)

    def mutants(self, root: Path) -> Iterator[Mutant]:
        for path in self.paths(root):
            yield from mutants(path.relative_to(root).as_posix(), path.read_text())

    def drawn(self, root: Path, seed: int) -> Iterator[Mutant]:
        """All mutants, or the sample: the first that come of it are a smaller one.

        Each room, which is a folder, has as many as its share of all. The order is by a digest of seed and change, so
        a change elsewhere in the code draws the others again.
        """
        if self.sample is None:
            yield from self.mutants(root)
            return
        rooms: dict[str, list[Mutant]] = {}
        for mutant in self.mutants(root):
            rooms.setdefault(str(Path(mutant.path).parent), []).append(mutant)
        sizes = shares(self.sample, [len(room) for room in rooms.values()])
        drawn: list[Mutant] = []
        for room, size in zip(rooms.values(), sizes, strict=True):
            drawn += _first(size, sorted(room, key=lambda mutant: _rank(seed, mutant)))
        yield from sorted(drawn, key=lambda mutant: _rank(seed, mutant))


def _first(number: int, ranked: Iterable[Mutant]) -> Iterator[Mutant]:
    """The first so many that make another program."""
    for mutant in ranked:
        if number <= 0:
            return
        if mutant.make() is not None:
            number -= 1
            yield mutant


def _rank(seed: int, mutant: Mutant) -> str:
    return sha256(f"{seed} {mutant.path} {mutant.name}".encode()).hexdigest()


def shares(number: int, sizes: Sequence[int]) -> list[int]:
    """Split a number in proportion to the sizes; what rounding leaves goes to the largest remainders."""
    whole = sum(sizes)
    number = min(number, whole)
    exact = [number * size / whole for size in sizes]
    split = [math.floor(one) for one in exact]
    for at in sorted(range(len(sizes)), key=lambda at: split[at] - exact[at])[: number - sum(split)]:
        split[at] += 1
    return split


def wilson(found: int, tried: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927)."""
    z = 1.959964
    centre, spread = found + z * z / 2, z * math.sqrt(found * (tried - found) / tried + z * z / 4)
    return (centre - spread) / (tried + z * z), (centre + spread) / (tried + z * z)


RULES_TESTED: Final = ("tests/domain/**", "tests/contracts/**", "tests/read_models/**", "tests/audit/test_inv*")
DOMAINS: Final = Group("domains", RULES_TESTED, ("*_svc/domain.py", "*_svc/domain/*.py"))
BESIDE_PROCESSES: Final = ("admission", "dead_service", "deadlines", "ends", "popular_counting", "refusal", "waits")
"""Files of tests/saga in which some tests call a service's rules in their own process."""
RULES: Final = Group(
    "rules",
    (*RULES_TESTED, *(f"tests/saga/test_{name}.py" for name in BESIDE_PROCESSES)),
    ("*_svc/*.py",),
    without=tuple(f"*_svc/{name}.py" for name in ("__*", "domain", "*api", "settings", "export")),
)
CONTRACTS: Final = Group("contracts", RULES_TESTED, ("contracts/*.py",))
INFRA: Final = Group("infra", ("tests/domain/**", "tests/infra/**", "tests/sim/**"), ("infra/**/*.py",), sample=300)
GROUPS: Final = (DOMAINS, CONTRACTS, RULES, INFRA)
"""Their tests call the code in their own process, without waiting long."""
