"""The saga whose services ask for tokens, and speak TLS. The broker is the bundled one, without accounts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.systems import Saga
from bench.wares import KEYS, SCOPES, authorization
from infra.auth.authorities import CA_FILE
from infra.auth.development import development_certificate, development_key
from infra.auth.token_file import TOKEN_FILE
from infra.local import readiness
from ops.token import AUDIENCE, ISSUER

ENOUGH: Final = "1000000"
"""Requests a second of one caller: the load generator's operator makes all goods."""


class WithTokens(Saga):
    """The saga that asks for tokens. The load generator has the key, and a token for each user."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        key = development_key(folder)
        token = folder / "operator.token"
        own = {
            "AUTH_KEYS": str(key.public_keys),
            "AUTH_ISSUER": ISSUER,
            "AUTH_AUDIENCE": AUDIENCE,
            "RATE_LIMIT": ENOUGH,
            "RATE_BURST": ENOUGH,
            TOKEN_FILE: str(token),
        }
        super().__init__(folder, settings={**own, **(settings or {})})
        self._env = {KEYS: str(folder), TOKEN_FILE: str(token), **(settings or {})}
        os.environ[KEYS] = str(folder)
        token.write_text(authorization("operator", SCOPES).removeprefix("Bearer "))

    def __enter__(self) -> "WithTokens":
        """Its settings for those who ask it are this process's while it runs, which the load generator inherits."""
        os.environ.update(self._env)
        readiness.forget_client()
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for name in self._env:
            os.environ.pop(name, None)
        readiness.forget_client()


class OverTls(WithTokens):
    """The same over TLS."""

    def __init__(self, folder: Path) -> None:
        made = development_certificate(folder)
        files = {"TLS_CERT_FILE": str(made.certificate), "TLS_KEY_FILE": str(made.key), CA_FILE: str(made.authority)}
        super().__init__(folder, files)
