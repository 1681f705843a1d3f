"""Every judged mutant is one of the code as it is, and stands in docs/reliability.md with its reason."""

from pathlib import Path
from typing import Final

from tests.mutants.judged import JUDGED
from tests.mutants.mutate import mutants

ROOT: Final = Path(__file__).resolve().parents[2]


def test_what_is_judged_can_still_be_made() -> None:
    for path in {path for path, _ in JUDGED}:
        names = {mutant.name for mutant in mutants(path, (ROOT / path).read_text())}
        assert [name for of, name in JUDGED if of == path and name not in names] == [], path


def test_what_is_judged_stands_in_the_table() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = [f"| {path} | `{name.replace('|', chr(92) + '|')}` | {why} |" for (path, name), why in JUDGED.items()]
    assert [row for row in rows if row not in page] == []
