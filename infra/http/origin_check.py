"""Refuses requests with which a page of another origin could read or change data, before any route sees them.

Services listen on loopback and do not authenticate callers. But every browser on the machine reaches them, and so does
every page in it. docs/decisions/0033-pages-of-other-origins.md says what a page could do, and how this ends it.
"""

import re
from collections.abc import Iterable
from typing import Final

from infra.http.problems import Problem

READ: Final = frozenset({b"host", b"origin", b"content-type", b"content-length", b"transfer-encoding"})

_loopback = re.compile(
    rb"(?:localhost|127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\])(?::[0-9]{1,5})?\Z", re.IGNORECASE
).match
_json = re.compile(rb"[ \t]*application/json[ \t]*(?:;|\Z)", re.IGNORECASE).match
_json_or_form = re.compile(rb"[ \t]*application/(?:json|x-www-form-urlencoded)[ \t]*(?:;|\Z)", re.IGNORECASE).match


def unknown_host() -> Problem:
    return Problem(
        421,
        "misdirected-request",
        "the Host of the request is not a name of this service; send localhost or 127.0.0.1 with its port, or have the "
        "operator add the name to ALLOWED_HOSTS",
    )


def foreign_origin() -> Problem:
    return Problem(
        403,
        "foreign-origin",
        "the request comes from a page of another origin; use a page of this service, or have the operator add the "
        "page's host to ALLOWED_HOSTS",
    )


def no_json() -> Problem:
    return Problem(
        415, "unsupported-media-type", "a body has to be JSON; send it with the header Content-Type: application/json"
    )


def no_host() -> Problem:
    return Problem(400, "malformed-request", "the header Host is missing; send the name and the port of this service")


class OriginCheck:
    """Checks the headers of a request: Host, Origin if there is one, Content-Type (JSON) if there is a body.

    `allowed_hosts`: names of the service besides loopback's, each with a port or, for every port, without one.
    `forms`: a body may also be a urlencoded form; any page can send one, so its route has to check more than this.
    """

    def __init__(self, allowed_hosts: Iterable[str] = (), *, forms: bool = False) -> None:
        self._allowed = frozenset(host.lower().encode() for host in allowed_hosts)
        self._taken = _json_or_form if forms else _json

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
        """Return the problem to answer with; None if the request may pass.

        `headers` are those of an ASGI scope. If a header that is checked is repeated, each of them has to be right, and
        an Origin the same each time.
        """
        host = origin = None
        wrong_type = has_body = typed = False
        for name, value in headers:
            if name not in READ:
                continue
            if name == b"host":
                if _loopback(value) is None and not self._is_allowed(value):
                    return unknown_host()
                host = value
            elif name == b"content-type":
                typed = True
                wrong_type = wrong_type or self._taken(value) is None
            elif name == b"content-length":
                has_body = has_body or value.strip(b"0") != b""
            elif name == b"origin":
                if origin is not None and origin != value:
                    return foreign_origin()
                origin = value
            else:
                has_body = True
        if host is None:
            return no_host()
        if origin is not None and not self._is_own(origin, host):
            return foreign_origin()
        return no_json() if has_body and (wrong_type or not typed) else None

    def _is_own(self, origin: bytes, host: bytes) -> bool:
        """Return whether this origin is the service's own: that of the Host which is asked, or of an allowed one."""
        scheme, _, authority = origin.partition(b"://")
        return scheme in {b"http", b"https"} and (authority.lower() == host.lower() or self._is_allowed(authority))

    def _is_allowed(self, host: bytes) -> bool:
        host = host.lower()
        name, colon, port = host.rpartition(b":")
        return host in self._allowed or (bool(colon) and port.isdigit() and name in self._allowed)
