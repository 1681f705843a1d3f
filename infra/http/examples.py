"""Examples of bodies for the API's documentation: objects of their types, so no field is missing or misspelled."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from msgspec import Struct

Body = TypeVar("Body", bound=Struct)

_examples: Final[dict[type, Struct]] = {}


def example(**fields: Any) -> Callable[[type[Body]], type[Body]]:
    """Return a class decorator that keeps an object of the class with these fields as the example of its bodies."""

    def keep(body: type[Body]) -> type[Body]:
        _examples[body] = body(**fields)
        return body

    return keep


def example_of(body: type[Body]) -> Body:
    """Return the example of this class. Raises KeyError if it has none."""
    return _examples[body]  # type: ignore[return-value]


def examples_by_name() -> dict[str, Struct]:
    return {body.__name__: value for body, value in _examples.items()}
