"""The certificate with which a server speaks TLS: read from files, and again when the process is told to (SIGHUP)."""

import asyncio
import signal
import ssl
from pathlib import Path

import structlog

from infra.settings import Settings, SettingsError
from infra.timestamps import now

logger = structlog.get_logger()


class ServerCertificate:
    """A certificate with its key. `context` is for all connections; those that are open keep what they began with."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both files. Raises ValueError, in words, if they cannot be used."""
        self._certificate = certificate
        self._key = key
        self.context = self._read()

    def reload(self) -> None:
        """Read both files again, for new connections. If they cannot be used, log why; the old certificate stays."""
        try:
            self._read()
            self.context.load_cert_chain(self._certificate, self._key)
        except (ValueError, OSError) as error:
            logger.error(
                "the certificate cannot be read again, the old one is used",
                error=str(error),
                next_step="mend the files",
            )
        else:
            logger.info("the certificate was read again", path=str(self._certificate))

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            for path in (self._certificate, self._key):
                path.open("rb").close()
            context.load_cert_chain(self._certificate, self._key, password=lambda: "")
        except ssl.SSLError as error:
            why = (
                "they do not belong together" if "MISMATCH" in str(error) else f"not PEM, or encrypted ({error.reason})"
            )
            raise ValueError(f"{self._certificate} and {self._key} cannot be used: {why}") from error
        except OSError as error:
            raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error
        if (ended := _expired(self._certificate)) is not None:
            raise ValueError(f"{self._certificate} has expired: {ended}")
        return context


def _expired(certificate: Path) -> str | None:
    """Return when the first certificate of the file has expired; None: it has not."""
    from cryptography import x509  # noqa: PLC0415 - an extra

    until = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    return f"{until:%Y-%m-%d %H:%M:%S} UTC" if until <= now() else None


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the context of `open_certificate`, and have SIGHUP read the certificate again. Needs a running loop."""
    certificate = open_certificate(settings)
    if certificate is None:
        return None
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, certificate.reload)
    return certificate.context


def open_certificate(settings: Settings) -> ServerCertificate | None:
    """Return the certificate of these settings; None: the server speaks plain HTTP. Raises SettingsError."""
    if not settings.tls_cert_file:
        return None
    try:
        return ServerCertificate(Path(settings.tls_cert_file), Path(settings.tls_key_file))
    except ValueError as error:
        raise SettingsError(f"TLS_CERT_FILE and TLS_KEY_FILE: {error}") from error
