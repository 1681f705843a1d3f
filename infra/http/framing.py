"""Finds where each request on a connection begins and ends, by RFC 9112, in a bounded buffer.

What decides where a request ends also decides who sent the next one. So nothing else does: `RequestReader` hands out
whole requests only, and refuses what is doubtful. Decision 32 has the reasons.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from infra.http.chunks import ChunkedBody
from infra.http.grammar import (
    FIELD,
    HOST,
    MAX_EMPTY_LINES,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_LENGTH_DIGITS,
    NEVER_IN_A_HEAD,
    REQUEST_LINE,
    long_head,
    long_line,
    malformed,
    too_large,
)
from infra.http.problems import Problem

_SINGLE: Final = frozenset({b"host", b"content-length"})
_DECIDING: Final = _SINGLE | {b"transfer-encoding", b"connection", b"expect"}

_KNOWN_FIELDS: Final = 4_096
_KNOWN_FIELD_BYTES: Final = 256  # so that they take at most 2 MB


class HttpRequest(NamedTuple):
    """One whole request. `target` is the path with the query, or `*` (OPTIONS); `version` is 1.0 or 1.1.

    The names of `headers` are lower-case, their values are without blanks at the ends. A trailer is not among them.
    If the request line names an authority, that is the Host in `headers`.
    """

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    body: bytearray
    keep_alive: bool


class _HeaderSection(NamedTuple):
    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    length: int
    chunked: bool
    expects_continue: bool


class RequestReader:
    """Takes the bytes of one connection and returns its requests, one after another, each of them whole.

    It keeps at most one head, one body, and what was fed last: feed at most once more while a request is unanswered.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._searched = 0  # bytes at the buffer's beginning in which the end of the head is not
        self._line_read = False  # the request line has come, and is one
        self._empty_lines = 0  # that have come before the head
        self._head: _HeaderSection | None = None
        self._chunks: ChunkedBody | None = None

    @property
    def begun(self) -> bool:
        """Whether a part of a request was received that `next_request` has not returned."""
        return bool(self._buffer) or self._head is not None

    @property
    def expects_continue(self) -> bool:
        """Whether the client may wait for `100 Continue` before it sends more of the request that has begun."""
        return self._head is not None and self._head.expects_continue and not self._buffer

    def feed(self, data: memoryview | bytes) -> None:
        self._buffer += data

    def next_request(self) -> HttpRequest | None:
        """Return the next request; None: it is not complete.

        Raises Problem if it is malformed, too large or in an unknown transfer coding; then the connection must be
        closed.
        """
        head = self._head or self._read_head()
        if head is None:
            return None
        self._head = head
        if self._chunks is not None:
            body = self._chunks.take_from(self._buffer)
        elif len(self._buffer) < head.length:
            body = None
        else:
            body = self._buffer[: head.length]
            del self._buffer[: head.length]
        if body is None:
            return None
        self._head = self._chunks = None
        return HttpRequest(head.method, head.target, head.version, head.headers, body, head.keep_alive)

    def _read_head(self) -> _HeaderSection | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # some clients send an empty line after a body
            self._empty_lines += 1
            if self._empty_lines > MAX_EMPTY_LINES:
                raise malformed(f"at most {MAX_EMPTY_LINES} empty lines come before a request")
            del buffer[:2]
            self._searched = 0
        end = buffer.find(b"\r\n\r\n", self._searched, MAX_HEAD_BYTES)
        if end < 0:
            self._check_unfinished()
            self._searched = max(0, len(buffer) - 3)
            return None
        head = _parse_head(bytes(buffer[: end + 2]))
        del buffer[: end + 4]
        self._searched = self._empty_lines = 0
        self._line_read = False
        if head.length > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        self._chunks = ChunkedBody(self._max_body_bytes) if head.chunked else None
        return head

    def _check_unfinished(self) -> None:
        """Check what has come now of a head whose end is not there yet. Its header lines are checked once it is whole.

        Raises Problem if it is too long, has a wrong request line, a control character or a bare CR or LF.
        """
        buffer, begin = self._buffer, max(0, self._searched - 1)
        if NEVER_IN_A_HEAD.search(buffer, begin, MAX_HEAD_BYTES):
            raise malformed("the bytes are no HTTP/1.1 request: lines end with CR LF and have no control characters")
        if not self._line_read and buffer.find(b"\r\n", begin, MAX_HEAD_BYTES) >= 0:
            if not REQUEST_LINE.match(buffer):
                raise _no_request_line()
            self._line_read = True
        if len(buffer) > MAX_HEAD_BYTES:
            raise long_head() if self._line_read else long_line()


def _no_request_line() -> Problem:
    return malformed('the first line is no request line of HTTP/1.1, such as "GET /readyz HTTP/1.1"')


def _parse_head(raw: bytes) -> _HeaderSection:
    """Parse a head; `raw` ends with its last line's CR LF. Raises Problem."""
    line = REQUEST_LINE.match(raw)
    if line is None:
        raise _no_request_line()
    lines = raw[line.end() : -2].split(b"\r\n") if line.end() < len(raw) else []
    if len(lines) > MAX_FIELDS:
        raise long_head(f"a request has at most {MAX_FIELDS} header lines")
    headers = [_known_field(each) if len(each) <= _KNOWN_FIELD_BYTES else _field(each) for each in lines]
    if None in headers:
        raise malformed(f'line {headers.index(None) + 2} of the request is no header line of HTTP/1.1, "Name: value"')
    method, authority, target, minor = line.groups()
    version = "1.0" if minor == b"0" else "1.1"
    deciding = _deciding(headers, version)  # type: ignore[arg-type]  # none of them is None
    if authority is not None:  # RFC 9112, 3.2.2: it counts, and what Host says does not
        if target == b"*" or not authority or authority.startswith(b":"):
            raise _no_request_line()
        headers = [(b"host", authority), *(field for field in headers if field is not None and field[0] != b"host")]
        target = target if target.startswith(b"/") else b"/" + target
    elif not target.startswith(b"/") and (target, method) != (b"*", b"OPTIONS"):
        raise _no_request_line()
    chunked = _is_chunked(deciding.get(b"transfer-encoding"), version)
    length = deciding.get(b"content-length", b"0")
    if chunked and b"content-length" in deciding:
        raise malformed("a request has a Content-Length or a Transfer-Encoding, never both")
    if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
        raise malformed("the header Content-Length is a number")
    return _HeaderSection(
        method.decode(),
        target,
        version,
        headers,  # type: ignore[arg-type]  # none of them is None
        version == "1.1" and not _asks_to_close(deciding.get(b"connection", b"")),
        int(length),
        chunked,
        version == "1.1" and deciding.get(b"expect", b"").lower() == b"100-continue",
    )


def _field(line: bytes) -> tuple[bytes, bytes] | None:
    """Return the lower-case name and the value of a header line; None if it is no header line."""
    if not FIELD.fullmatch(line):
        return None
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b"\t ")


_known_field: Final = lru_cache(_KNOWN_FIELDS)(_field)
"""Clients repeat most of their header lines with each request."""


def _deciding(headers: list[tuple[bytes, bytes]], version: str) -> dict[bytes, bytes]:
    """Return the values of the headers that decide how the request is read, repeated ones joined by commas.

    Raises Problem for a second Host or Content-Length, for a bad Host, and, except in HTTP/1.0, for a missing one.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in _DECIDING:
            continue
        if name in found and name in _SINGLE:
            raise malformed(f"a request has at most one header {name.decode().title()}")
        found[name] = found[name] + b", " + value if name in found else value
    host = found.get(b"host")
    if host is None and version != "1.0":
        raise malformed("a request has a header Host")
    if host is not None and not HOST.fullmatch(host):
        raise malformed("the header Host is no name or address, with or without a port")
    return found


def _asks_to_close(options: bytes) -> bool:
    if options in (b"", b"keep-alive"):
        return False
    return b"close" in [option.strip(b"\t ") for option in options.lower().split(b",")]


def _is_chunked(coding: bytes | None, version: str) -> bool:
    if coding is None:
        return False
    if version == "1.0":
        raise malformed("a request of HTTP/1.0 has no Transfer-Encoding")
    coding = coding.lower()
    if coding == b"chunked":
        return True
    if coding.rpartition(b",")[2].strip(b"\t ") == b"chunked":
        raise Problem(
            501, "unknown-transfer-coding", "the only Transfer-Encoding here is chunked; the connection is closed"
        )
    raise malformed("the last Transfer-Encoding of a request is chunked")
