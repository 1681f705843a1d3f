"""Which changes are mutants, and which make no difference."""

from pathlib import Path
from typing import Final

import pytest

from tests.mutants.groups import shares, wilson
from tests.mutants.mutate import mutants

ROOT: Final = Path(__file__).resolve().parents[2]


def names(source: str) -> list[str]:
    return [mutant.name for mutant in mutants("module.py", source) if mutant.make() is not None]


def test_a_statement_that_is_only_called_is_taken_away() -> None:
    assert "f: g() → pass" in names("def f() -> None:\n    g()\n")


def test_a_condition_is_turned_round() -> None:
    assert "f: if a: b() → if not (a): b()" in names("def f() -> None:\n    if a:\n        b()\n")


def test_decorated_functions_and_constants_are_mutated_too() -> None:
    source = "LIMIT = 3\n\nclass A:\n    most = 5\n\n    @property\n    def b(self) -> int:\n        return 7\n"
    assert {"module: 3 → 4", "A: 5 → 6", "A.b: 7 → 8"} <= set(names(source))


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""\n',
        "def f(a: int | None) -> None: ...\n",
        'def f() -> None:\n    logger.info("a text", at=3)\n',
        '__all__ = ["A"]\n',
        'class A:\n    def __repr__(self) -> str:\n        return "A" + 3\n',
        'if __name__ == "__main__":\n    main(3)\n',
        "def f() -> None:\n    assert a > 3\n",
        "class A(Struct, gc=False): ...\n",
        "def f() -> None:\n    return g(strict=True)\n",
        "@g(3)\ndef f() -> None: ...\n",
    ],
)
def test_what_makes_no_difference_is_no_mutant(source: str) -> None:
    assert [name for name in names(source) if name != 'f: logger.info("a text", at=3) → pass'] == []


def test_the_text_of_an_error_is_left_alone() -> None:
    assert names('def f() -> None:\n    raise ValueError("a text")\n') == [
        'f: raise ValueError("a text") → pass',
        'f: ValueError("a text") → ValueError(None)',
    ]


def test_the_case_for_the_type_checker_stays() -> None:
    cases = "        case 1:\n            g()\n        case _:\n            assert_never(a)\n"
    made = [mutant.make() or "" for mutant in mutants("m.py", f"def f(a: A) -> int:\n    match a:\n{cases}")]
    assert all("case _" in source for source in made)
    assert any("case 1" not in source for source in made)


def test_a_changed_module_has_other_mutants() -> None:
    one, other = (mutants("module.py", f"A = 3\nB = {b}\n") for b in (4, 5))
    assert not {mutant.id for mutant in one} & {mutant.id for mutant in other}


def test_a_sample_is_split_over_the_rooms() -> None:
    assert shares(300, [1_000, 500, 500]) == [150, 75, 75]
    assert shares(10, [1, 1, 1]) == [1, 1, 1], "never more than there are"
    assert sum(shares(300, [713, 97, 1_311, 5])) == 300


def test_the_interval_of_a_share() -> None:
    low, high = wilson(285, 300)
    assert (round(low, 4), round(high, 4)) == (0.9192, 0.9695)
    assert wilson(10, 10)[1] == pytest.approx(1.0)
