"""The header Idempotency-Key of draft-ietf-httpapi-idempotency-key-header, and the same key without its quotes."""

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from litestar.params import HeaderParameter

from infra.core.unit_of_work import Answer
from infra.http.wording import FORMS

PATTERN: Final = r'^(?:"(?:[ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~]|[!#-~][!-~]{0,253}[!#-~])\Z'
FORMS[PATTERN] = (
    'has to be 1 to 255 ASCII characters in quotes, such as "basket-17", or as many without blanks and without quotes'
)
REPLAYED: Final = ("Idempotency-Key", "Idempotent-Replayed")
"""The headers that `replayable` makes: every answer has the first, and a repeated one both."""

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        required=False,
        pattern=PATTERN,
        description=(
            '1 to 255 ASCII characters in quotes, such as "basket-17"; the same characters without the quotes, if none '
            "is a space, are the same key. The same key is the same request."
        ),
    ),
]


async def read_key(sent: str, is_recorded: Callable[[str], Awaitable[bool]]) -> str:
    r"""Return the key that the header's value `sent` names: `"k1"` and `k1` name the key k1.

    Between quotes, a backslash stands for nothing, and the character after it for itself.
    Histories may have keys with quotes around them, from when a quoted key was another key. Such a key stays what it
    is, so that a repeated request finds its answer: `is_recorded` tells whether the history has `sent` with the quotes.
    """
    if not sent.startswith('"') or await is_recorded(sent):
        return sent
    return re.sub(r"\\(.)", r"\1", sent[1:-1])


def new_key() -> str:
    return secrets.token_hex(16)


def replayable(sent: str) -> Callable[[Answer], dict[str, str]]:
    """Return a function that makes the response headers for an answer of the writer.

    The first is `Idempotency-Key: <sent>`; `sent` is what the client sent, or the key made for a request without one.
    The second is `Idempotent-Replayed: true`, only if the answer has no new facts.
    """
    return lambda answer: {"Idempotency-Key": sent} | ({} if answer.facts else {"Idempotent-Replayed": "true"})
