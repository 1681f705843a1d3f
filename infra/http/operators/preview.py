"""Holds a redrive against the preview that its operator saw."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from infra.http.problems import Problem


def preview_hash(outcomes: Iterable[tuple[int, Sequence[str], str | None]]) -> str:
    """Return the hash of these outcomes: the sequence of each dead letter, the facts it leads to, and its error."""
    return sha256(msgspec.json.encode(list(outcomes))).hexdigest()


def preview_changed() -> Problem:
    return Problem(409, "preview-changed", "the redrive would now do something else than its preview said: look again")
