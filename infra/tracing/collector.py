"""Reads from OpenTelemetry's variables where spans go. It imports nothing of the library, an optional extra."""

from collections.abc import Mapping
from typing import Final

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Names the collector for everything."""
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
"""Names the URL for traces alone."""


def is_named(env: Mapping[str, str]) -> bool:
    """Whether TRACES_ENDPOINT or ENDPOINT is set and not blank in `env`."""
    return any(env.get(name, "").strip() for name in (TRACES_ENDPOINT, ENDPOINT))


def collector(env: Mapping[str, str]) -> tuple[str, str]:
    """Return the name of the variable that says where spans go, and the whole URL that results.

    TRACES_ENDPOINT has the whole URL. Without it, `/v1/traces` is added to the value of ENDPOINT, also to an empty one.
    """
    if at := env.get(TRACES_ENDPOINT, "").strip():
        return TRACES_ENDPOINT, at
    return ENDPOINT, f"{env.get(ENDPOINT, '').strip().rstrip('/')}/v1/traces"
