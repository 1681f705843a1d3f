"""Foreign text on a terminal is shown and never obeyed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.printable import printable


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = printable(text)

    assert shown.isprintable()
    assert not any(unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for one in shown)
    shown.encode()


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert printable("주문 p1 é 日本") == "주문 p1 é 日本"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("paid\rvoid", r"paid\x0dvoid"),
        ("a\nb", r"a\x0ab"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("a\u2028b\ud800", r"a\u2028b\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_each_kind_of_control_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_the_caller_keeps_is_kept() -> None:
    assert printable("one\ntwo\t\x1b", keep="\n\t") == "one\ntwo\t\\x1b"
