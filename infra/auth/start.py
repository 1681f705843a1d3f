"""Makes what verifies the tokens of a service, from its settings."""

from pathlib import Path

from infra.addresses import is_loopback
from infra.auth.principal import Verifier
from infra.settings import Settings, SettingsError


def open_verifier(settings: Settings) -> Verifier | None:
    """Return what verifies callers' tokens; None: AUTH_KEYS is not set. A file is read now, a URL later.

    Raises SettingsError if the file cannot be used, or has a development key and the service listens beyond loopback.
    """
    if not settings.auth_keys:
        return None
    from infra.auth.keys import FileKeys, UrlKeys  # noqa: PLC0415 - an extra
    from infra.auth.tokens import TokenRules, TokenVerifier  # noqa: PLC0415

    if settings.keys_are_remote:
        keys: FileKeys | UrlKeys = UrlKeys(settings.auth_keys, development=is_loopback(settings.bind_host))
    else:
        try:
            keys = FileKeys(Path(settings.auth_keys))
        except (OSError, ValueError) as error:
            raise SettingsError(f"AUTH_KEYS={settings.auth_keys} cannot be used: {error}") from error
        if keys.development and not is_loopback(settings.bind_host):
            raise SettingsError(
                f"AUTH_KEYS={settings.auth_keys} has a development key, and BIND_HOST is {settings.bind_host}, not a "
                "loopback address: a user who can read it could make tokens. Use the keys of an issuer."
            )
    rules = TokenRules(
        settings.auth_issuer, settings.auth_audience, settings.auth_leeway_s, settings.auth_max_lifetime_s
    )
    return TokenVerifier(keys, rules)
