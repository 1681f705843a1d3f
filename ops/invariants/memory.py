"""The tables in which the checker keeps what it remembers: in this process, unless another Memory is passed to it."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

V = TypeVar("V")


class Table(Protocol[V]):
    """Remembered values by key. `get` returns None for a missing key; `remove` ignores it.

    A value that `get` returned may be changed in place until the next `get`, and the table keeps the change. Values of
    `items` and `values` are for reading only.
    """

    def get(self, key: str, /) -> V | None: ...
    def __setitem__(self, key: str, value: V, /) -> None: ...
    def __len__(self) -> int: ...
    def remove(self, key: str, /) -> None: ...
    def items(self) -> Iterator[tuple[str, V]]: ...
    def values(self) -> Iterator[V]: ...


class Memory(Protocol):
    """Makes a checker's tables. Values are Structs, tuples, numbers, strings or dicts of these: they are stored.

    `of` is their type. The checker calls each method once for each name.
    """

    def many(self, name: str, of: type[V]) -> Table[V]:
        """Return the table of this name, which may grow with history. Call it once for each name.

        It begins with the values of an earlier part of history, if any.
        """

    def few(self, name: str, of: type[V]) -> dict[str, V]:
        """Return the dict of this name, for values of things in flight, by key. Call it once for each name.

        It begins with the values of an earlier part of history, if any. It may be in memory whole: so remove each
        value once its thing is no longer in flight.
        """


class InProcess:
    """A memory that begins empty and ends with the process. Each call makes a new table or dict."""

    def many(self, name: str, of: type[V]) -> Table[V]:
        return Dictionary()

    def few(self, name: str, of: type[V]) -> dict[str, V]:
        return {}


class Dictionary(dict[str, V]):
    """A table that is a dict; it ends with the process."""

    def remove(self, key: str) -> None:
        self.pop(key, None)

    def items(self) -> Iterator[tuple[str, V]]:  # type: ignore[override]
        return iter(super().items())

    def values(self) -> Iterator[V]:  # type: ignore[override]
        return iter(super().values())
