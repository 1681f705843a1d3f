"""Mutants that no test can find, each with the reason."""

from typing import Final

JUDGED: Final[dict[tuple[str, str], str]] = {}
"""Path and name of a mutant → why it is the same program to everybody who uses it."""
