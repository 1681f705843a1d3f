"""What may be an id."""

import pytest

from contracts.ids import MAX_LENGTH, is_id


@pytest.mark.parametrize("text", ["a", "9", "_", "-", "Az-09_", "m" * MAX_LENGTH])
def test_letters_digits_underscores_and_hyphens_make_an_id(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["", "m" * (MAX_LENGTH + 1), "a.b", "*", ">", "a b", "a\n", "\na", "머그", "é", "a/b"])
def test_anything_else_is_no_id(text: str) -> None:
    assert not is_id(text)
