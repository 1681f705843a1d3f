"""Which texts are addresses of HTTP servers and hosts, and which of them are this machine."""

import ipaddress
import re
from urllib.parse import urlsplit


def is_http_address(text: str) -> bool:
    """Whether this is a URL with the scheme http or https and a host; the port may be missing, but not 0.

    A blank or another character that does not print makes it none. What else it has is not checked: credentials,
    path, query.
    """
    if not text.isprintable() or " " in text:
        return False
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # brackets, or a port, that are none
        return False


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_host(text: str) -> bool:
    """Return whether this is a host as the header Host names it: a name or an address, with or without a port.

    An IPv6 address is in brackets.
    """
    name, address = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", r"\[[0-9A-Fa-f:.]+\]"
    return re.fullmatch(rf"(?:{name}|{address})(?::[0-9]{{1,5}})?", text) is not None
