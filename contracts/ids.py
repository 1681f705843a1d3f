"""The rule for the ids of orders, products, users and coupons.

An id is the last token of a NATS subject, so it has no dot, no wildcard and no space.
"""

import re
from hashlib import sha256
from typing import Final

CHARACTER: Final = "[A-Za-z0-9_-]"
MAX_LENGTH: Final = 64
PATTERN: Final = rf"^{CHARACTER}{{1,{MAX_LENGTH}}}\Z"
r"""A regular expression for one whole id. It ends in `\Z`, because `$` also matches before a newline at the end, and a
newline must not reach a subject."""
MEANING: Final = f"1 to {MAX_LENGTH} letters, digits, `_` or `-`"
"""The rule in words, for error messages and documentation."""


def ecma(pattern: str) -> str:
    r"""Return the pattern with `$` in place of the `\Z` at its end: JSON Schema has ECMAScript's patterns.

    A pattern without the `\Z` gets the `$`, too.
    """
    return pattern.removesuffix(r"\Z") + "$"


_matches = re.compile(PATTERN).match
_matches_stream = re.compile(rf"[a-z]+-{CHARACTER}{{1,{MAX_LENGTH}}}\Z").match


def is_id(text: str) -> bool:
    return _matches(text) is not None


def keyed_id(owner: str, key: str) -> str:
    """Return the id of what this owner's idempotency key names, such as a charge: 32 hexadecimal digits.

    The same arguments always give the same id. A key itself may have characters, or a length, that no id has.
    """
    return sha256(f"{owner}\0{key}".encode()).hexdigest()[:32]


def is_stream(text: str) -> bool:
    """Whether this has the form of a name of an aggregate's event stream, `<category>-<id>`, such as `order-7`."""
    return _matches_stream(text) is not None
