"""The storage format, as files: what was written once must be readable, and written the same way, for ever.

A test that fails here says that the format has changed. If a field was added on purpose (with a default), keep the old
file as `<fact>.before-<field>.json`, which must still be readable, and let `just goldens` write the new `<fact>.json`.
That recipe writes what is missing, such as the bodies of a new service's facts, and changes no file.
"""

from pathlib import Path

import pytest

from contracts.wire import FACTS, NAMES, decode, encode
from tests.contracts import goldens
from tests.contracts.examples import BY_NAME
from tests.contracts.goldens import GOLDEN

CURRENT = {name: GOLDEN / f"{name}.json" for name in FACTS if (GOLDEN / f"{name}.json").exists()}


def test_there_is_a_golden_body_of_every_fact() -> None:
    assert sorted(FACTS.keys() - CURRENT.keys()) == [], "write them: just goldens"


def test_the_recipe_writes_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "order.confirmed.json").write_text("as it was written once")

    written = goldens.write(tmp_path)

    assert sorted(written) == sorted(FACTS.keys() - {"order.confirmed"})
    assert (tmp_path / "order.confirmed.json").read_text() == "as it was written once"
    assert {name: (tmp_path / f"{name}.json").read_bytes() for name in CURRENT if name in written} == {
        name: file.read_bytes() for name, file in CURRENT.items() if name in written
    }


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_every_body_ever_written_can_be_read(file: Path) -> None:
    name, _, _ = file.stem.partition(".before-")

    assert NAMES[type(decode(file.read_bytes()))] == name


@pytest.mark.parametrize("name", CURRENT)
def test_a_golden_body_is_written_again_byte_for_byte(name: str) -> None:
    body = CURRENT[name].read_bytes()

    assert encode(decode(body)) == body


@pytest.mark.parametrize("name", CURRENT)
def test_a_golden_body_means_what_it_always_meant(name: str) -> None:
    assert decode(CURRENT[name].read_bytes()) == BY_NAME[name]
