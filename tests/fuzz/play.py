"""One damaged input, made of a seed, and given to a reader."""

from random import Random

from tests.fuzz.damage import damaged
from tests.fuzz.targets import TARGETS


def play(name: str, seed: int, *, dry_run: bool = False) -> bytes:
    """Give the reader the input of this seed, unless `dry_run`, and return the input. Raises if a promise is broken."""
    target, random = TARGETS[name], Random(f"{name} {seed}")
    data = damaged(random.choice(target.right), target.right, random)
    if not dry_run:
        target.read(data, random)
    return data
