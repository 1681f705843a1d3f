"""Makes text that others wrote safe to print: a terminal must show it, never obey it.

Names, ids, errors, subjects and file names come from clients, other publishers and other programs. On a terminal an
escape sequence in them could clear the screen, forge lines or reorder characters.
"""

from typing import Final

_WIDTHS: Final = ((0xFF, "x", 2), (0xFFFF, "u", 4), (0x10FFFF, "U", 8))


def printable(text: str, keep: str = "") -> str:
    r"""Return the text with every character that is not printable escaped, such as `\x1b`; those in `keep` stay.

    Not printable are control characters (C0 with newlines, C1), bidirectional and other invisible format characters,
    surrogates, unassigned and private-use characters, and blanks other than the space.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escaped(ord(one)) for one in text)


def _escaped(code: int) -> str:
    letter, digits = next((letter, digits) for most, letter, digits in _WIDTHS if code <= most)
    return f"\\{letter}{code:0{digits}x}"
