"""By which authorities tools know the services that they ask over TLS."""

import ssl
from collections.abc import Mapping
from functools import cache
from typing import Final

CA_FILE: Final = "TLS_CA_FILE"
CERT_FILE: Final = "TLS_CERT_FILE"


@cache
def _unused() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def authorities(env: Mapping[str, str]) -> ssl.SSLContext:
    """Return the context for asking services: with the authorities of CA_FILE, or else those of the system.

    Where services speak plain HTTP (CERT_FILE is not set), it has none: reading all of a system's takes 20 ms. Raises
    ValueError, in words, if the file cannot be read.
    """
    named = env.get(CA_FILE, "").strip()
    if not named:
        return ssl.create_default_context() if env.get(CERT_FILE, "").strip() else _unused()
    try:
        return ssl.create_default_context(cafile=named)
    except OSError as error:
        raise ValueError(f"{CA_FILE}={named} cannot be used: {error.strerror or error}") from error
