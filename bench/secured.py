"""What it costs to ask callers for tokens, and to speak TLS: c64 so beside c64 without."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.phases import Row
from bench.systems import Saga, System
from bench.systems.secured import OverTls, WithTokens
from bench.watched import measure_sides

OPEN: Final = "saga"
TOKENS: Final = "tokens"
SECURED: Final = "tokens, TLS"
SIDES: Final[dict[str, Callable[[Path], System]]] = {OPEN: Saga, TOKENS: WithTokens, SECURED: OverTls}
COMPARED: Final = ((TOKENS, OPEN), (SECURED, OPEN))
"""What is compared, and with what."""


def measure_secured(pairs: int, shrink: float = 1.0) -> Iterator[Row]:
    """Run every side this often, in turns, and yield each row. Raises LoadFailed, WentWrong, StartFailed."""
    return measure_sides("secured", SIDES, pairs, shrink)
