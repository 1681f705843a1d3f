"""Where OpenTelemetry's variables say that spans go. It imports nothing of the extra."""

from collections.abc import Mapping
from typing import Final

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Names the collector for everything."""
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
"""Names the URL for traces alone."""


def is_named(env: Mapping[str, str]) -> bool:
    """Whether one of the variables says where spans go; a blank one does not."""
    return any(env.get(name, "").strip() for name in (TRACES_ENDPOINT, ENDPOINT))


def collector(env: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that says where spans go, and the whole URL, to which one for everything has a path added."""
    if at := env.get(TRACES_ENDPOINT, "").strip():
        return TRACES_ENDPOINT, at
    return ENDPOINT, f"{env.get(ENDPOINT, '').strip().rstrip('/')}/v1/traces"
