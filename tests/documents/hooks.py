"""Hooks of schemathesis, which `SCHEMATHESIS_HOOKS` names."""

from typing import Any

import schemathesis


def whole(value: Any) -> Any:
    """A generated value without whole numbers that are written as 1.0.

    JSON Schema counts them as integers and cannot exclude them; services refuse them and say so.
    """
    if isinstance(value, dict):
        return {key: whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    return whole(body)
