"""Says what is wrong with a value, in a client's words: JSON's types and plain limits, nothing of Python's.

`in_words` knows every message of msgspec that a request can cause. In place of an unknown one it gives ANOTHER_FORM.
"""

import ast
import re
from collections.abc import Callable
from typing import Final

from contracts import ids

TYPES: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
    "datetime": "text of a date and time",
    "date": "text of a date",
}
FORMS: Final = {ids.PATTERN: f"has to be {ids.MEANING}"}
"""What patterns mean, in words. A module with a pattern of its own adds it."""
WITH_OFFSET: Final = "has to be a date and time with an offset, such as 2099-12-31T00:00:00+09:00"
NO_TIME: Final = (
    "has to be a date and time that exists, such as 2099-12-31T00:00:00+09:00: with an offset, seconds to 59, "
    "and, rounded to microseconds, within the years 1 to 9999"
)
ANOTHER_FORM: Final = "does not have the form that the API's page at /schema shows"


def _type(named: str) -> str:
    return " or ".join(TYPES.get(one, "another type") for one in named.split(" | "))


def _got(named: str) -> str:
    return "a number with a fraction or an exponent" if named == "float" else _type(named)


def _length(found: re.Match[str]) -> str:
    things = {"str": "character", "object": "field"}.get(found[1], "entry")
    if found[3] != "1":
        things = f"{things}s" if things != "entry" else "entries"
    return f"has to have at {'least' if found[2] == '>=' else 'most'} {found[3]} {things}"


def _number(found: re.Match[str]) -> str:
    return f"has to be {found[2]} or {'more' if found[1] == '>=' else 'less'}"


MESSAGES: Final[list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]] = [
    (re.compile(pattern), words)
    for pattern, words in (
        (r"Expected `(str|array|object)` of length (>=|<=) (\d+)", _length),
        (r"Expected `(?:int|float)` (>=|<=) (-?\d+)(?:\.0)?", _number),
        (r"Expected `(.+)`, got `(.+)`", lambda found: f"has to be {_type(found[1])}, not {_got(found[2])}"),
        (r"Expected `str` matching regex (.*)", lambda found: FORMS.get(ast.literal_eval(found[1]), ANOTHER_FORM)),
        (r"Expected `datetime` with a timezone component", lambda _: WITH_OFFSET),
        (r"Invalid RFC3339 encoded datetime", lambda _: NO_TIME),
        (r"(?:Integer value|Number) out of range", lambda _: "is too large a number"),
        (r"Object missing required field .*", lambda _: "is required"),
        (r"Object contains unknown field .*", lambda _: "is not a field of this object"),
        (r"Invalid enum value .*", lambda _: "is none of the values that the API's page at /schema lists"),
    )
]


def in_words(message: str) -> str:
    """Return in a client's words what a message of msgspec's ValidationError says.

    Returns ANOTHER_FORM for an unknown message, and for one about a pattern that FORMS does not have.
    The caller has to remove the place at the message's end, such as " - at `$.id`".
    """
    for pattern, words in MESSAGES:
        if found := pattern.fullmatch(message):
            return words(found)
    return ANOTHER_FORM


def no_json_in_words(error: Exception) -> str:
    """Return in words why a body is not JSON: `error` is msgspec's DecodeError or a UnicodeDecodeError."""
    if isinstance(error, UnicodeDecodeError):
        return "the body is not JSON: it is not UTF-8"
    at = re.search(r"\(byte (\d+)\)", str(error))
    if at is None:
        return "the body is not JSON: it ends too early"
    return f"the body is not JSON: byte {at[1]} cannot be there"
