"""Says how many there are of something."""


def count_of(number: int, name: str) -> str:
    """Return the number and the name, which has an s unless there is one: `1 dead letter`, `2 dead letters`."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"
