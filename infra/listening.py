"""The sockets on which services listen: a service's own, or one that its starter holds.

A socket that `just up` holds stays open while its service is restarted: clients that connect meanwhile are not refused,
but wait in the system's queue, and the new process answers.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

BACKLOG: Final = 2_048  # connections waiting to be accepted
INHERITED: Final = "LISTENER_FD"
"""The variable by which a starter names the descriptor of the socket to a service. No person sets it."""
MOST_DIGITS: Final = 9
"""Of a descriptor's number; a longer one is none."""


def listening(host: str, port: int) -> socket.socket:
    """Return a new TCP socket that listens on this address; the caller closes it. Raises OSError if that fails."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Listen at once: two sockets may be bound to one port as long as neither listens.
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def is_held(env: Mapping[str, str] = os.environ) -> bool:
    """Return whether the starter of this process holds this process's socket: LISTENER_FD is set and not empty."""
    return bool(env.get(INHERITED))


def inherited(port: int, env: Mapping[str, str] = os.environ) -> socket.socket | None:
    """Return the socket whose descriptor the variable LISTENER_FD of `env` names; None if it is not set or empty.

    Raises OSError if it names anything but a socket that listens on this port.
    """
    named = env.get(INHERITED, "")
    if not named:
        return None
    if not named.isdecimal() or len(named) > MOST_DIGITS:
        raise OSError(None, f"{INHERITED} is {named!a}, which is no descriptor; unset it")
    try:
        listener = socket.socket(fileno=int(named))
    except OSError as error:
        raise OSError(error.errno, f"{INHERITED} is {named}, which is no socket: {error.strerror}; unset it") from error
    if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and listener.getsockname()[1] == port:
        return listener
    listener.detach()
    raise OSError(None, f"{INHERITED} is {named}, which does not listen on this port; unset it")
