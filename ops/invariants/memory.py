"""The tables in which the checker keeps what it remembers: in this process, unless its user passes another place."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

V = TypeVar("V")


class Table(Protocol[V]):
    """Remembered values by key. A value that was read may be changed until another one is read."""

    def get(self, key: str, /) -> V | None: ...
    def __setitem__(self, key: str, value: V, /) -> None: ...
    def __len__(self) -> int: ...
    def remove(self, key: str, /) -> None: ...
    def items(self) -> Iterator[tuple[str, V]]: ...
    def values(self) -> Iterator[V]: ...


class Memory(Protocol):
    """The checker's memory. Values are Structs, numbers or strings, so that they can be stored; `of` is their type."""

    def many(self, name: str, of: type[V]) -> Table[V]:
        """The table of this name; it grows with history."""

    def few(self, name: str, of: type[V]) -> dict[str, V]:
        """The values of things in flight, by key; they do not grow with history."""


class InProcess:
    """A memory of dictionaries, which end with the process."""

    def many(self, name: str, of: type[V]) -> Table[V]:
        return Dictionary()

    def few(self, name: str, of: type[V]) -> dict[str, V]:
        return {}


class Dictionary(dict[str, V]):
    """A table in this process."""

    def remove(self, key: str) -> None:
        self.pop(key, None)

    def items(self) -> Iterator[tuple[str, V]]:  # type: ignore[override]
        return iter(super().items())

    def values(self) -> Iterator[V]:  # type: ignore[override]
        return iter(super().values())
