"""A broker's address and credentials, as NATS_URL has them: nats://user:password@host:port, or tls:// for TLS."""

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

DEFAULT_PORT: Final = 4_222
_ENCODED: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BrokerUrl(NamedTuple):
    """One server of the broker. `user` is empty without credentials; a `user` without a `password` (None) is a token.

    Both are percent-decoded.
    """

    tls: bool
    host: str
    port: int
    user: str = ""
    password: str | None = None

    @property
    def at(self) -> str:
        """Host and port, without credentials: to connect to, and for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_broker_url(url: str) -> BrokerUrl:
    """Parse the URL of one server of a broker. A host and port without a scheme count as nats://.

    After a scheme the port may be missing: 4222. Raises ValueError if `url` is no such URL. The message names the
    cause and omits the URL, which may have a password.
    """
    if not url:
        raise ValueError("an address is empty; is there a comma too many?")
    if not url.isprintable() or " " in url:
        raise ValueError("an address has a blank or a control character")
    if "://" not in url and ":" not in url:
        raise ValueError("an address has neither a scheme nor a port; begin it with nats://, or tls:// for TLS")
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        port = parts.port
    except ValueError:
        raise ValueError(f"the port is not a number from 1 to 65535; {ENCODE}") from None
    if parts.scheme not in ("nats", "tls"):
        raise ValueError("an address begins with nats://, or tls:// for TLS")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"something follows the port; {ENCODE}")
    if not parts.hostname or port == 0:
        raise ValueError("an address has no host, or port 0")
    user, password = parts.username, parts.password
    if _ENCODED.search(f"{user or ''}{password or ''}"):
        raise ValueError(f"a % is not followed by two hexadecimal digits; {ENCODE}")
    if password is not None and not user:
        raise ValueError("an address has a password but no user")
    return BrokerUrl(
        parts.scheme == "tls",
        parts.hostname,
        port or DEFAULT_PORT,
        unquote(user or ""),
        None if password is None else unquote(password),
    )


ENCODE: Final = "in a user or password, write , / ? # @ : and % as %2C %2F %3F %23 %40 %3A %25"
