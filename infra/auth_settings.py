"""The settings of callers' tokens: issuer, audience, keys and rate limit; and of TLS: certificate, key, authorities."""

import importlib.util
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from infra.addresses import is_http_address, is_loopback
from infra.archive_settings import ArchiveSettings

INSTALL: Final = "`uv sync --inexact --extra auth` installs it"


class AuthSettings(ArchiveSettings, frozen=True, kw_only=True):
    """The settings of callers' tokens and of TLS. Making one checks nothing: `check_auth` does."""

    auth_keys: str = ""
    """The file or the URL of the JWKS with the issuer's public keys; empty: callers need no token."""
    auth_issuer: str = ""
    """The `iss` that tokens must have."""
    auth_audience: str = ""
    """What tokens must have in `aud`."""
    auth_leeway_s: Annotated[float, Meta(ge=0, le=60)] = 30.0
    """By so much the issuer's clock may differ from this machine's."""
    auth_max_lifetime_s: Annotated[float, Meta(ge=60, le=2_678_400)] = 86_400.0
    """The longest time from a token's `iat` to its `exp`; without `iat` from now to `exp`."""
    rate_limit: Annotated[float, Meta(ge=0, le=1e6)] = 100.0
    """How many requests a second a caller with a token may send; 0: any number."""
    rate_burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    """How many such a caller may send at once after a pause."""
    auth_http: Literal["loopback", "anywhere"] = "loopback"
    """Where services may take tokens without TLS."""
    connections_per_address: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """How many connections one client's address may have at a service; 0: as many as there are."""
    tls_cert_file: str = ""
    """The file with the service's certificate and those between it and its authority (PEM). Empty: plain HTTP."""
    tls_key_file: str = ""
    """The file with the certificate's private key (PEM)."""
    tls_ca_file: str = ""
    """The file with the authorities by which tools know services (PEM). Empty: those of the system."""

    def check_auth(self, bind_host: str) -> None:
        """Raise ValueError if the settings of tokens, TLS and this address do not go together, or a library is missing.

        `bind_host` must be a loopback address, or tokens be required, and come over TLS unless `auth_http` is anywhere.
        No file is read, and no URL is asked.
        """
        self._check_tls()
        if not self.auth_keys:
            if not is_loopback(bind_host):
                raise ValueError(
                    f"BIND_HOST is {bind_host}, not a loopback address: callers are not authenticated in this mode, so "
                    "only this machine may reach the service. Use 127.0.0.1 and put an authenticating proxy in front, "
                    "or set AUTH_KEYS, AUTH_ISSUER and AUTH_AUDIENCE (docs/security.md)."
                )
            return
        if missing := [name for name in ("auth_issuer", "auth_audience") if not getattr(self, name)]:
            raise ValueError(f"AUTH_KEYS is set, and {missing[0].upper()} is not: tokens of every issuer would do")
        if self.keys_are_remote:
            _check_keys_url(self.auth_keys)
        if not (is_loopback(bind_host) or self.tls_cert_file or self.auth_http == "anywhere"):
            raise ValueError(
                f"BIND_HOST is {bind_host}, not a loopback address, and tokens would come without TLS: all who see the "
                "network could use them. Set TLS_CERT_FILE and TLS_KEY_FILE; or use 127.0.0.1 behind a proxy that ends "
                "TLS; or, if the network between proxy and service is yours alone, set AUTH_HTTP=anywhere."
            )
        if any(importlib.util.find_spec(name) is None for name in ("jwt", "cryptography")):
            raise ValueError(f"AUTH_KEYS needs PyJWT and cryptography, which are not installed: {INSTALL}")

    def _check_tls(self) -> None:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE are set together, or neither is")
        if self.tls_cert_file and importlib.util.find_spec("cryptography") is None:
            raise ValueError(f"TLS_CERT_FILE needs cryptography, which is not installed: {INSTALL}")

    @property
    def keys_are_remote(self) -> bool:
        """Whether `auth_keys` is a URL, not a file."""
        return "://" in self.auth_keys


def _check_keys_url(url: str) -> None:
    if not is_http_address(url) or urlsplit(url).username is not None:
        raise ValueError("AUTH_KEYS is no URL of a JWKS, such as https://issuer.example/jwks.json, nor a file")
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError(
            "AUTH_KEYS begins with http://, so anybody on the way could put other keys there: use https://"
        )
