"""Damaged inputs of every reader, the same in each run; `just fuzz` plays others."""

import asyncio
from random import Random

import pytest

from contracts.origin import header, heard
from contracts.wire import MSG_ID
from tests.fuzz.play import play
from tests.fuzz.targets import HEAD, TARGETS, VERIFIER

INPUTS = 20_000
BLOCKS = 5


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_right_is_read(name: str) -> None:
    for right in TARGETS[name].right:
        TARGETS[name].read(right, Random(0))


@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_damaged_breaks_no_promise(name: str, block: int) -> None:
    count = INPUTS // BLOCKS
    for seed in range(block * count, (block + 1) * count):
        try:
            play(name, seed)
        except Exception as error:
            error.add_note(f"just fuzz --target '{name}' --seed {seed}: {play(name, seed, dry_run=True)!r}")
            raise


def test_a_right_fact_is_heard_and_a_right_token_taken() -> None:
    """Else the damaged ones would test the first line of their readers alone."""
    for right in TARGETS["facts"].right:
        subject, _, rest = right.partition(b"|")
        head, _, body = rest.partition(HEAD)
        head += b"\r\n\r\n"
        assert heard(subject.decode(), header(head, MSG_ID.encode()), head, body)[1].endswith("@7")
    right, _ = TARGETS["tokens"].right
    assert asyncio.run(VERIFIER.verify(right.decode())).scopes == {"ops:read"}


def test_a_seed_gives_the_same_input_again() -> None:
    for name in TARGETS:
        if name not in ("tokens", "keys"):  # whose right inputs have keys of this run
            assert play(name, 7, dry_run=True) == play(name, 7, dry_run=True)
    assert len({play("requests", seed, dry_run=True) for seed in range(100)}) > 90
