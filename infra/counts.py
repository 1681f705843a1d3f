"""Says how many there are of something."""


def count_of(number: int, name: str) -> str:
    """Return number and name, with an `s` after the name unless the number is 1: `1 dead letter`, `2,000 facts`."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"
