"""Finds free ports of this machine."""

import contextlib
import errno
import os
import random
import socket
import sys
from collections import deque
from typing import Any, Final

RESERVED: Final = 64 if sys.platform == "linux" else 0
"""How many ports a process reserves: the newest that it has found. Elsewhere their servers would be refused."""

_reserved: Final[deque[int]] = deque()
"""The descriptors of their sockets, which are bound and do not listen. They close with the process."""


def is_free(port: int) -> bool:
    """Return whether a server on this machine could listen on this port of 127.0.0.1 now."""
    return why_not_free(port) is None


def why_not_free(port: int) -> OSError | None:
    """Return the error with which the system refuses a server this port of 127.0.0.1 now; None if it grants it."""
    return _refusal(socket.AF_INET, ("127.0.0.1", port))


def is_taken(host: str, port: int) -> bool:
    """Return whether this port of `host`, an address of this machine, is in use: by a server or an outgoing connection.

    False if the system refuses the address for another reason, or does not know the host. Of a name with several
    addresses only the first is tried.
    """
    with contextlib.suppress(OSError, UnicodeError):
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        refusal = _refusal(family, address)
        return refusal is not None and refusal.errno == errno.EADDRINUSE
    return False


def _refusal(family: int, address: tuple[Any, ...]) -> OSError | None:
    """Return the error with which the system refuses a server this address; None if it grants it."""
    with socket.socket(family, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(address)
        except OSError as error:
            return error
    return None


def free_ports(count: int) -> list[int]:
    """Find `count` different ports of 127.0.0.1 that are free now.

    All are below 32768, where Linux begins to choose ports for outgoing connections. On Linux no other process finds
    the last RESERVED of them until this one has ended or has found as many others: two systems that start at once get
    different ports. A server can listen there meanwhile, if it sets SO_REUSEADDR, as servers do.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randint(15_000, 31_999)
        candidate = socket.socket()
        try:
            candidate.bind(("127.0.0.1", port))
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        except OSError:
            candidate.close()
        else:
            found.append(port)
            _reserved.append(candidate.detach())
    while len(_reserved) > RESERVED:
        os.close(_reserved.popleft())
    return found
