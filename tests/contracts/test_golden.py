"""The storage format, as files: what was written once must be readable, and written the same way, for ever.

A test that fails here says that the format has changed. If a field was added on purpose (with a default), keep the old
file as `<fact>.before-<field>.json`, which must still be readable, and write the new body to `<fact>.json`.
"""

from pathlib import Path

import pytest

from contracts.wire import FACTS, NAMES, decode, encode
from tests.contracts.examples import BY_NAME

GOLDEN = Path(__file__).parent / "golden"
CURRENT = {name: GOLDEN / f"{name}.json" for name in FACTS}


def test_there_is_a_golden_body_of_every_fact() -> None:
    assert [name for name, file in CURRENT.items() if not file.exists()] == []


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_every_body_ever_written_can_be_read(file: Path) -> None:
    name, _, _ = file.stem.partition(".before-")

    assert NAMES[type(decode(file.read_bytes()))] == name


@pytest.mark.parametrize("name", FACTS)
def test_a_golden_body_is_written_again_byte_for_byte(name: str) -> None:
    body = CURRENT[name].read_bytes()

    assert encode(decode(body)) == body


@pytest.mark.parametrize("name", FACTS)
def test_a_golden_body_means_what_it_always_meant(name: str) -> None:
    assert decode(CURRENT[name].read_bytes()) == BY_NAME[name]
