"""Mutants that no test can find, each with the reason."""

from typing import Final

JUDGED: Final[dict[tuple[str, str], str]] = {
    (
        "contracts/origin.py",
        'header: rest.partition(b"\\r\\n")[0].decode(errors="replace") if found else "" → '
        'rest.partition(b"\\r\\n")[0].decode(errors="replace") if (found) or True else ""',
    ): "what follows a missing header is empty",
    ("contracts/wire.py", 'module: "wire" → "XXwireXX"'): "it declares no fact and no step, so none is found in it",
    ("contracts/wire.py", 'module: "_Keys" → "XX_KeysXX"'): "the name of a class that nobody sees",
    ("contracts/wire.py", 'header_value: "-" → "XX-XX"'): "the slower way has the same result",
    ("contracts/wire.py", 'header_value: "_" → "XX_XX"'): "whatever an identifier may have in it does",
    ("contracts/asyncapi.py", 'document: "" → "XXXX"'): "every fact has a docstring; the rest is for the type checker",
}
"""Path and name of a mutant → why it is the same program to everybody who uses it."""
